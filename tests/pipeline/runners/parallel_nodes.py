"""Pipelines of small nodes that `test_parallel_dag_runner` has run in a process where TensorFlow has not run yet."""

import json
import logging
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import MetadataStore
from tfx.dsl.compiler.compiler import Compiler
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.types.standard_artifacts import Model

from core import progress
from core.errors import Cause, InputError
from core.processes import raise_when_terminated
from pipeline.runners import partial_run
from pipeline.runners.forks import Fork, Lock, call
from pipeline.runners.parallel_dag_runner import NodeError, ParallelDagRunner
from pipeline.runs.lineage import latest_run_id, node_runs


@component
def Meet(name: Parameter[str], other: Parameter[str], folder: Parameter[str], model: OutputArtifact[Model]) -> None:  # noqa: N802
    """Ends when another node that runs at the same time has come as far."""
    Path(folder, name).touch()
    limit = time.monotonic() + 60
    while not Path(folder, other).exists():
        assert time.monotonic() < limit, f"{other} does not run beside {name}"
        time.sleep(0.05)
    progress.report(1, 2, "meetings")
    model.set_string_custom_property("name", name)


@component
def End(how: Parameter[str], model: OutputArtifact[Model]) -> None:  # noqa: N802
    """Ends badly."""
    if how == "input":
        raise InputError("the images are bad")
    if how == "bug":
        raise ZeroDivisionError("by zero")
    if how == "parent killed":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    if how == "interrupted":
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(60)
    if how == "terminated":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)
    if how == "interrupted twice":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for _ in range(2):
            os.kill(os.getppid(), signal.SIGINT)
            time.sleep(1)
        time.sleep(60)
    os.kill(os.getpid(), getattr(signal, how))


@component
def Copy(model: InputArtifact[Model], copy: OutputArtifact[Model]) -> None:  # noqa: N802
    """Follows another."""
    copy.set_string_custom_property("name", model.get_string_custom_property("name"))


def hold_to_the_end(lock: Lock) -> None:
    """Takes a lock, twice, and is killed."""
    with lock, lock:
        os.kill(os.getpid(), signal.SIGKILL)


def take(lock: Lock) -> str:
    """Takes a lock, twice."""
    with lock:
        with lock:
            pass
        return "taken"


class Story:
    """Writes down what an observer hears, and which nodes ended as files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[list[Any]] = []

    def started(self, node: str) -> None:
        self.told.append(["started", node])

    def progressed(self, node: str, at: dict[str, Any]) -> None:
        self.told.append(["progressed", node, at])

    def waited(self) -> None:
        self.told.append(["waited"])

    def ended(self, node: str, cpu_seconds: float | None, cause: Cause | None) -> None:
        self.told.append(["ended", node, cpu_seconds, cause])
        (self.folder / f"{node} ended").touch()


def run(
    folder: Path, nodes: list[BaseNode], at_once: int = 2, first: str | None = None, last: str | None = None
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    metadata = sqlite_metadata_connection_config(str(folder / "metadata.sqlite"))
    pipeline = Pipeline("p", str(folder / "root"), components=nodes, metadata_connection_config=metadata)
    story, error = Story(folder), None
    compiled = Compiler().compile(pipeline)
    began = time.monotonic()
    try:
        if first or last:
            partial_run.mark(compiled, first, last, MetadataStore(metadata))
        ParallelDagRunner(at_once, story).run_with_ir(compiled)
    except InputError as refused:
        error = str(refused)
    except NodeError as failed:
        error = [failed.node, *failed.cause]
    except KeyboardInterrupt as ended:
        error = str(ended) or "interrupted"
    store = MetadataStore(metadata)
    states = {n.id: n.state for n in node_runs(store, latest_run_id(store, "p") or "").values()}
    children = len(multiprocessing.active_children())
    seconds = time.monotonic() - began
    return {"told": story.told, "error": error, "states": states, "children": children, "seconds": seconds}


def meeting(folder: Path, *names: str) -> list[BaseNode]:
    """Nodes of which each waits for the next."""
    others = (*names[1:], names[0])
    return [Meet(name=n, other=o, folder=str(folder)).with_id(n) for n, o in zip(names, others, strict=True)]


def failing(folder: Path, how: str) -> list[BaseNode]:
    """A node that fails, one beside it that ends later, and one after each."""
    folder.mkdir()
    bad, good = End(how=how).with_id("Bad"), Meet(name="Good", other="Bad ended", folder=str(folder)).with_id("Good")
    after = [Copy(model=node.outputs["model"]).with_id(f"After{node.id}") for node in (bad, good)]
    return [bad, good, *after]


def partial(folder: Path) -> dict[str, Any]:
    """Of a chain of three stages some, before and after others have run."""

    def some(first: str | None = None, last: str | None = None) -> dict[str, Any]:
        made = Meet(name="A", other="A", folder=str(folder)).with_id("A")
        copied = Copy(model=made.outputs["model"]).with_id("B")
        ended = Copy(model=copied.outputs["copy"]).with_id("C")
        beside = Meet(name="D", other="D", folder=str(folder)).with_id("D")
        return run(folder, [made, copied, ended, beside], first=first, last=last)

    folder.mkdir()
    return {
        "before any": some("B"),
        "to": some(last="B"),
        "last": some("C", "C"),
        "unknown": some("Bb"),
        "backwards": some("C", "A"),
        "one": some("B", "B"),
        "from": some("C"),
    }


def main(folder: Path) -> None:
    logging.getLogger(progress.LOGGER_NAME).setLevel(logging.INFO)
    results: dict[str, Any] = {}
    (folder / "pair").mkdir()
    first, second = meeting(folder / "pair", "First", "Second")
    results["pair"] = run(folder / "pair", [first, second, Copy(model=first.outputs["model"])])
    (folder / "many").mkdir()
    results["many"] = run(folder / "many", meeting(folder / "many", *(f"N{n}" for n in range(8))), at_once=8)
    for how in ("input", "bug", "SIGKILL", "SIGTERM", "SIGSEGV", "interrupted", "interrupted twice"):
        results[how] = run(folder / how, failing(folder / how, how))
    results["partial"] = partial(folder / "partial")
    raise_when_terminated()
    results["terminated"] = run(folder / "terminated", failing(folder / "terminated", "terminated"))
    lock = Lock()
    killed = Fork(print, hold_to_the_end, lock)
    while not (ending := killed.hear()):
        pass
    results["lock"] = [ending.cause is not None, call(print, take, lock)]
    print(json.dumps(results))
