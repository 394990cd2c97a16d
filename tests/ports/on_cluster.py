"""Runs the pipeline on a real cluster of this machine, and breaks the cluster in the middle of jobs.

    unshare -n sh -c 'ip link set lo up && python -m tests.ports.on_cluster memory MEMORY RESULT.json'
    unshare -n sh -c 'ip link set lo up && python -m tests.ports.on_cluster flink WORK RESULT.json MEMORY'

The first is what clusters are compared with, and leaves its images and a model in MEMORY. RESULT.json holds the records
of runs of the whole pipeline under `runs`, of which there is a second on a cluster; what the Beam components and
batch-predict wrote, under `components`; and how a job ended for each fault, under `faults`. Commands are forked from a
process that has imported the stack.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import msgspec
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from core.settings.beam import LocalEngine
from pipeline.runners.worker_pool import CODE
from tests.conftest import ROOT
from tests.fork_server import STACK, ForkServer
from tests.model_factory import save_model
from tests.ports import clusters
from tests.ports.beam_components import predict_batch, read_outputs, write_colors
from tests.ports.few_digits import write_few_digits
from tests.ports.written import BATCH_PREDICT, COMPONENTS

_LACKING_PORT = 50003
_MODULES = (*STACK, "pipeline.inference.batch_predict", "pipeline.runners.cluster_runner")


def _setting(engine: str, **changes: Any) -> str:
    """`runtime.beam` for the command line."""
    beam = msgspec.structs.replace(clusters.engine(engine), **changes)
    return f"runtime.beam={json.dumps({**msgspec.to_builtins(beam), 'options': list(beam.options)})}"


def run_pipeline(forks: ForkServer, beam: str, images: Path, work: Path) -> dict[str, Any]:
    """Runs it whole; returns the record, with what was on the screen. `beam` is a setting."""
    settings = (
        f"data.images={images} data.max_rejected=0.1 evaluation.thresholds={{accuracy: {{min: 0.1}}}} "
        f"runtime.bfloat16=off runtime.cache=true"
    )
    root, log = work / "root", work / "screen.txt"
    # A second run must look at each stage: without this record, nothing tells it that all is unchanged.
    (root / "digits" / "last_run.json").unlink(missing_ok=True)
    code = forks.run(
        "pipeline", ["run", "--root", str(root), "--set", settings, "--set", beam], ROOT, log, log, os.environ
    )
    record = json.loads((root / "digits" / "last_run.json").read_text())
    screen = log.read_text()
    log.unlink()
    return {"code": code, "record": record, "screen": screen}


def read_run(work: Path) -> dict[str, Any]:
    """What each Beam component of the only run wrote, by its id."""
    artifacts = work / "root" / "digits" / "artifacts"

    def uris(component: str) -> dict[str, str]:
        keys = (folder for folder in (artifacts / component).iterdir() if not folder.name.startswith("."))
        return {folder.name: str(only) for folder in keys for only in folder.iterdir()}

    examples = uris("ImageExampleGen")["examples"]
    return {name: read_outputs(name, uris(name), examples) for name in COMPONENTS if name != BATCH_PREDICT}


class Faults:
    """batch-predict on a cluster to which something is done in the middle of the job."""

    def __init__(self, forks: ForkServer, engine: str, cluster: clusters.Cluster, work: Path, memory: Path) -> None:
        self._forks, self._engine, self._cluster, self._work, self._memory = forks, engine, cluster, work, memory
        self.found: dict[str, dict[str, Any]] = {}

    def job(self, name: str, fault: Callable[[], None] | None = None, **changes: Any) -> None:
        """Runs a job, with settings of its own; `fault` is called once the cluster has begun with it."""
        log, output = self._work / f"{name}.txt", self._work / f"{name}.jsonl"
        pool = self._cluster.processes["pool"].log
        workers = pool.read_text().count(" is process ")
        arguments = ["batch-predict", "--model", str(self._memory / "model"), "--output", str(output)]
        arguments += ["--set", _setting(self._engine, **changes), str(self._memory / "digits")]
        began = time.monotonic()
        with ThreadPoolExecutor(1) as threads:
            job = threads.submit(self._forks.run, "pipeline", arguments, ROOT, log, log, os.environ)
            while fault and not job.done() and pool.read_text().count(" is process ") <= workers:
                time.sleep(0.1)
            struck = time.monotonic()
            if fault:
                time.sleep(0.5)  # until the workers have found the cluster: the middle of a job, not of their start
                fault()
            code = job.result()
        self.found[name] = {
            "code": code,
            "said": log.read_text(),
            "seconds": time.monotonic() - (struck if fault else began),
            "records": len(output.read_text().splitlines()) if output.exists() else None,
        }
        print(name, self.found[name], flush=True)

    def kill(self, name: str) -> Callable[[int], None]:
        """A fault: a process of the cluster ends."""
        return self._cluster.processes[name].kill


def _kill_job_server() -> None:
    """The only one that a job of ours has started."""
    for process in _below(os.getpid()):
        program, *arguments = Path(f"/proc/{process}/cmdline").read_text().split("\0")
        if program == "java" and any(argument.endswith("-job-server.jar") for argument in arguments):
            os.kill(process, signal.SIGKILL)
            return
    raise AssertionError("the job has no job server")


def _below(process: int) -> Iterator[int]:
    """The ids of its children, of their children and so on."""
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            yield child
            yield from _below(child)


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


def in_memory(memory: Path, result: Path) -> None:
    """What clusters are compared with."""
    save_model(memory / "model", certainty=2.0)
    digits = write_few_digits(memory / "digits", 20)
    images = memory / "some broken"
    shutil.copytree(digits, images)
    (images / "0" / "broken.png").write_text("no image")
    with ForkServer(modules=_MODULES) as forks:
        run = run_pipeline(forks, "runtime.beam=local", images, memory)
    made = read_run(memory)
    colors = write_colors(memory / "colors")
    made[BATCH_PREDICT] = predict_batch(str(memory / "model"), colors, memory / "predictions.jsonl", LocalEngine())
    result.write_text(json.dumps({"runs": [run], "components": made}))


def on_cluster(engine: str, work: Path, result: Path, memory: Path) -> None:
    """Does all, and writes what was found."""
    _, software = clusters.obtain(engine)
    with ForkServer(modules=_MODULES) as forks, clusters.CLUSTERS[engine](work / "cluster", software) as cluster:
        runs = [run_pipeline(forks, _setting(engine), memory / "some broken", work)]
        made = read_run(work)
        runs.append(run_pipeline(forks, _setting(engine), memory / "some broken", work))
        documented = clusters.with_job_server(engine, cluster, work / "cluster", software)
        output = work / "predictions.jsonl"
        made[BATCH_PREDICT] = predict_batch(str(memory / "model"), memory / "colors", output, documented)
        cluster.processes.pop("job-server").kill()
        faults = Faults(forks, engine, cluster, work, memory)
        (break_flink if engine == "flink" else break_spark)(faults, cluster, work)
        found = {"runs": runs, "components": made, "faults": faults.found, "refusal": _refusal()}
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    where, *paths = sys.argv[1:]
    in_memory(*map(Path, paths)) if where == "memory" else on_cluster(where, *map(Path, paths))
