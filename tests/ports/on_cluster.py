"""Runs the pipeline on a real cluster of this machine, and breaks the cluster in the middle of jobs.

    unshare -n sh -c 'ip link set lo up && python -m tests.ports.on_cluster flink WORK RESULT.json'

RESULT.json holds what `tests.ports.beam_components` makes of the components, under `components`; the records of runs of
the whole pipeline, under `runs`; and how a job ended for each fault, under `faults`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from core.settings.beam import LocalEngine
from tests.conftest import ROOT
from tests.ports import clusters
from tests.ports.beam_components import Chain
from tests.ports.few_digits import write_few_digits

_SLOW = "tests.ports.on_cluster"
_TINY = (
    "evaluation.thresholds={accuracy: {min: 0.1}} training.max_steps=40 training.eval_every=20 "
    "serving.validator=none push.keep=2"
)


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


def run_pipeline(engine: str, work: Path) -> list[dict[str, Any]]:
    """Runs it whole, then again; returns both records, with what was on the screen."""
    images = write_few_digits(work / "images", 20)
    found = []
    for _ in range(2):
        settings = ["--set", f"{_TINY} data.images={images}", "--set", _setting(engine), "--set", "runtime.cache=true"]
        log = work / "screen.txt"
        # The second run must look at each stage: without this record, nothing tells it that all is unchanged.
        (work / "root" / "digits" / "last_run.json").unlink(missing_ok=True)
        code = _pipeline("run", "--root", str(work / "root"), *settings, log=log)
        record = json.loads((work / "root" / "digits" / "last_run.json").read_text())
        found.append({"code": code, "record": record, "screen": log.read_text()})
        log.unlink()
    return found


class Faults:
    """A batch-predict job, while something is done to the cluster."""

    def __init__(self, engine: str, cluster: clusters.Cluster, work: Path, model: str, images: Path) -> None:
        self._engine, self._cluster, self._work, self._model, self._images = engine, cluster, work, model, images

    def job(self, name: str, fault: Callable[[], None] | None = None, **changes: Any) -> dict[str, Any]:
        """Runs a job, with other settings; `fault` happens once the cluster has begun with it."""
        log, output = self._work / f"{name}.txt", self._work / f"{name}.jsonl"
        pool = self._cluster.processes["pool"].log
        workers = pool.read_text().count(" is process ")

        def wait() -> None:
            while pool.read_text().count(" is process ") <= workers:
                time.sleep(0.1)
            assert fault
            fault()

        thread = threading.Thread(target=wait, daemon=True)
        if fault:
            thread.start()
        began = time.monotonic()
        arguments = ["--model", self._model, "--output", str(output), "--set", _setting(self._engine, **changes)]
        code = _pipeline("batch-predict", *arguments, str(self._images), log=log)
        lines = len(output.read_text().splitlines()) if output.exists() else 0
        return {"code": code, "said": log.read_text(), "seconds": time.monotonic() - began, "records": lines}

    def restart(self, name: str) -> None:
        """Starts a process of the cluster that was killed."""
        self._cluster.processes[name].start()


def main(engine: str, work: Path, result: Path) -> None:
    """Does all, and writes what was found."""
    chain = Chain(work)
    found: dict[str, Any] = {"components": {"in memory": chain.run("in memory", LocalEngine())}}
    _, software = clusters.obtain(engine)
    with clusters.CLUSTERS[engine](work / "cluster", software):
        found["components"][engine] = chain.run(engine, clusters.engine(engine))
        found["runs"] = run_pipeline(engine, work)
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
