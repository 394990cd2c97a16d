"""Runs the pipeline on a real cluster of this machine, and breaks the cluster in the middle of jobs.

    unshare -n sh -c 'ip link set lo up && python -m tests.ports.on_cluster flink WORK RESULT.json'

RESULT.json holds what `tests.ports.beam_components` makes of the components, under `components`; the records of runs of
the whole pipeline, twice there and once in memory, under `runs`; and how a job ended for each fault, under `faults`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import msgspec
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from core.settings.beam import LocalEngine
from pipeline.runners.worker_pool import CODE
from tests.conftest import ROOT
from tests.ports import clusters
from tests.ports.beam_components import Chain
from tests.ports.few_digits import write_few_digits

_LACKING_PORT = 50003
_ANY_MODEL = "evaluation.thresholds={accuracy: {min: 0.1}}"


def _setting(engine: str, **changes: Any) -> str:
    """`runtime.beam` for the command line."""
    beam = msgspec.structs.replace(clusters.engine(engine), **changes)
    return f"runtime.beam={json.dumps({**msgspec.to_builtins(beam), 'options': list(beam.options)})}"


def _pipeline(verb: str, *arguments: str, log: Path) -> int:
    """The exit code of `python -m pipeline VERB`."""
    command = [sys.executable, "-m", "pipeline", verb, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with log.open("a") as output:
        return subprocess.run(command, stdout=output, stderr=output, env=environment, check=False).returncode


def run_pipeline(beam: str, work: Path, times: int) -> list[dict[str, Any]]:
    """Runs it whole, so many times; returns the records, with what was on the screen. `beam` is a setting."""
    images = write_few_digits(work / "digits", 20)
    found = []
    for _ in range(times):
        settings = [
            "--set",
            f"{_ANY_MODEL} data.images={images}",
            "--set",
            beam,
            "--set",
            "runtime.cache=true",
        ]
        log = work / "screen.txt"
        # The second run must look at each stage: without this record, nothing tells it that all is unchanged.
        (work / "root" / "digits" / "last_run.json").unlink(missing_ok=True)
        code = _pipeline("run", "--root", str(work / "root"), *settings, log=log)
        record = json.loads((work / "root" / "digits" / "last_run.json").read_text())
        found.append({"code": code, "record": record, "screen": log.read_text()})
        log.unlink()
    return found


class Faults:
    """batch-predict on a cluster to which something is done in the middle of the job."""

    def __init__(self, engine: str, cluster: clusters.Cluster, work: Path, model: str, images: Path) -> None:
        self._engine, self._cluster, self._work, self._model, self._images = engine, cluster, work, model, images
        self.found: dict[str, dict[str, Any]] = {}

    def job(self, name: str, fault: Callable[[int], None] | None = None, **changes: Any) -> None:
        """Runs a job, with settings of its own; `fault` gets its process's id, once the cluster has begun with it."""
        log, output = self._work / f"{name}.txt", self._work / f"{name}.jsonl"
        pool = self._cluster.processes["pool"].log
        workers = pool.read_text().count(" is process ")
        command = [sys.executable, "-m", "pipeline", "batch-predict", "--model", self._model, "--output", str(output)]
        command += ["--set", _setting(self._engine, **changes), str(self._images)]
        began = time.monotonic()
        with log.open("w") as said:
            job = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | {"PYTHONPATH": str(ROOT)})
        while fault and job.poll() is None and pool.read_text().count(" is process ") <= workers:
            time.sleep(0.1)
        struck = time.monotonic()
        if fault:
            fault(job.pid)
        code = job.wait()
        self.found[name] = {
            "code": code,
            "said": log.read_text(),
            "seconds": time.monotonic() - (struck if fault else began),
            "records": len(output.read_text().splitlines()) if output.exists() else None,
        }
        print(name, self.found[name], flush=True)

    def kill(self, name: str) -> Callable[[int], None]:
        """A fault: a process of the cluster ends."""
        return lambda _job: self._cluster.processes[name].kill()


def _kill_job_server(job: int) -> None:
    """The only Java among a process's children."""
    for child in Path(f"/proc/{job}/task/{job}/children").read_text().split():
        if "java" in Path(f"/proc/{child}/cmdline").read_text().split("\0")[0]:
            os.kill(int(child), signal.SIGKILL)
            return
    raise AssertionError("the job has no job server")


def _lacking_pool(work: Path) -> list[str | Path]:
    """Starts Beam's own pool where our packages are others."""
    for package in ("components", "core", "pipeline", "trainer"):
        (work / "others" / package).mkdir(parents=True)
        (work / "others" / package / "__init__.py").write_text("")
    python = work / "bin"
    python.mkdir()
    (python / "python").write_text(f'#!/bin/sh\ncd / && PYTHONPATH={work / "others"} exec {sys.executable} "$@"\n')
    (python / "python").chmod(0o755)
    return [python / "python", "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={_LACKING_PORT}"]


def _refusal() -> str:
    """What the worker pool answers a job of another version of this project."""
    with grpc.insecure_channel(f"127.0.0.1:{clusters.POOL_PORT}") as channel:
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        request = beam_fn_api_pb2.StartWorkerRequest(worker_id="1-1", params={CODE: "another"})
        return str(stub.StartWorker(request, timeout=30).error)


def break_flink(faults: Faults, cluster: clusters.Cluster, work: Path) -> None:
    """One fault after the other; what was killed is started again."""
    faults.job("nothing")
    faults.job("a TaskManager is killed", faults.kill("taskmanager-2"))
    cluster.processes["taskmanager-2"].start()
    faults.job("the job server is killed", _kill_job_server)
    cluster.add("lacking", work, _lacking_pool(work), PATH=f"{work / 'bin'}:{os.environ['PATH']}")
    cluster.wait_until(lambda: clusters.flink_ready(2) and clusters.listens(_LACKING_PORT))
    faults.job("more slots than there are", parallelism=9, tensorflow_parallelism=9)
    faults.job("workers without our package", worker_pool=f"127.0.0.1:{_LACKING_PORT}")
    faults.job("the worker pool is killed", faults.kill("pool"))
    cluster.processes["pool"].start()
    cluster.wait_until(lambda: clusters.flink_ready(2) and clusters.listens(clusters.POOL_PORT))
    faults.job("the JobManager is killed", faults.kill("jobmanager"))
    faults.job("no JobManager")
    cluster.processes["jobmanager"].start()
    cluster.wait_until(lambda: clusters.flink_ready(2))
    faults.job("afterwards")


def break_spark(faults: Faults, cluster: clusters.Cluster, work: Path) -> None:
    """As `break_flink`, of what is different."""
    too_much = "--job_server_jvm_properties=-Dspark.executor.memory=900g"
    faults.job("nothing")
    faults.job("more memory than there is", options=(too_much,))
    faults.job("a worker is killed", faults.kill("worker-2"))
    cluster.processes["worker-2"].start()
    faults.job("the job server is killed", _kill_job_server)
    faults.job("the worker pool is killed", faults.kill("pool"))
    cluster.processes["pool"].start()
    cluster.wait_until(lambda: clusters.listens(clusters.POOL_PORT))
    faults.job("afterwards")


def main(engine: str, work: Path, result: Path) -> None:
    """Does all, and writes what was found."""
    chain = Chain(work)
    found: dict[str, Any] = {"components": {"in memory": chain.run("in memory", LocalEngine())}}
    _, software = clusters.obtain(engine)
    with clusters.CLUSTERS[engine](work / "cluster", software) as cluster:
        settings = clusters.with_job_server(engine, cluster, work / "cluster", software)
        found["components"][engine] = chain.run(engine, settings)
        cluster.processes.pop("job-server").kill()
        found["runs"] = run_pipeline(_setting(engine), work, times=2)
        (work / "memory").mkdir()
        found["runs"] += run_pipeline("runtime.beam=local", work / "memory", times=1)
        faults = Faults(engine, cluster, work, chain.model, work / "digits")
        (break_flink if engine == "flink" else break_spark)(faults, cluster, work)
        found["faults"] = faults.found
        found["refusal"] = _refusal()
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
