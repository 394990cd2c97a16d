"""What Kubeflow's containers run: TFX's entry point for a stage, monitored; and the exit handler of the run.

No two pods share a process or a lock, so each keeps what it knows about its stage in files of its own, in a folder of
the run below the pipeline's root, and merges all pods' files into `heartbeat.json` and `<name>.prom`
(`runs.monitor.Shared`). Argo and Vertex AI start the exit handler however the run ended. It determines the outcome from
these files, and from the ML Metadata service where there is one, and then deletes them.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import re
import runpy
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2

from core import atomic_io, secrets
from core.artifacts.base import JsonFile
from core.artifacts.last_run import Stage
from core.artifacts.nodes import RESOLVERS
from core.errors import Blame, Cause, cause_of
from core.settings import Settings, from_dict
from pipeline.runs.lineage import NodeRun, Output, Reader, node_runs
from pipeline.runs.monitor import Shared, parts_folder

EXIT_HANDLER = "ExitHandler"
"""What the exit handler is called beside the stages."""

STATUS = "status"  # on Vertex AI the parameter with which the exit handler is told how the run ended
_EXECUTOR_INPUT = "--json_serialized_invocation_args"  # of TFX's entry point on Vertex AI


@dataclasses.dataclass(frozen=True)
class Left:
    """What a stage's pod leaves for the exit handler: why it failed, or its artifacts.

    Attributes:
        message: None if it did not fail.
        inputs: by name; like `outputs`, empty where ML Metadata knows them.
    """

    message: str | None = None
    blame: Blame = "code"
    inputs: dict[str, list[Output]] = dataclasses.field(default_factory=dict)
    outputs: dict[str, list[Output]] = dataclasses.field(default_factory=dict)


def _left(stage: str) -> JsonFile[Left]:
    return JsonFile(f"{stage}.left.json", Left)


def main(argv: Sequence[str]) -> None:
    """The command of every container: `stage` with TFX's own module and arguments, or `end`."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--root", required=True, help="folder of the pipeline")
    common.add_argument("--run", required=True, help="stands for the run")
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    stage = verbs.add_parser("stage", parents=[common])
    stage.add_argument("--name", required=True, help="of the pipeline")
    stage.add_argument("--stage", required=True, help="its id")
    stage.add_argument("--secret", action="append", default=[], help="a variable whose value nobody is to read")
    stage.add_argument("module", help="TFX's entry point")
    stage.add_argument("arguments", nargs=argparse.REMAINDER, help="its own")
    end = verbs.add_parser("end", parents=[common])
    end.add_argument("--settings", required=True, help="as JSON")
    end.add_argument(
        "--stages", required=True, help="JSON: by their ids, what fills each input: a stage and its output"
    )
    end.add_argument("--status", help="Argo's {{workflow.status}}")
    end.add_argument("--failures", help="Argo's {{workflow.failures}}")
    end.add_argument("--executor_input", help="Vertex AI's {{$}}")
    given = parser.parse_args(argv)
    (_run_stage if given.verb == "stage" else _end)(given)


def _run_stage(given: argparse.Namespace) -> None:
    """Runs TFX's entry point in this process, as `python -m` would, and records how it ended."""
    place = parts_folder(given.root, given.run)
    reader = Reader({}, logging.WARNING)  # a record that cannot be kept must not fail the stage
    monitor = Shared(given.name, given.root, given.run, given.stage)
    sys.argv = [given.module, *given.arguments]
    try:
        with monitor.watching(given.stage):
            try:
                runpy.run_module(given.module, run_name="__main__")
            except SystemExit as error:  # absl ends every program this way
                if error.code:
                    raise
    except BaseException as error:
        cause = cause_of(error)
        failed = Left(secrets.mask(cause.message, given.secret), cause.blame)
        reader.attempt("why it failed could not be kept", lambda: _left(given.stage).write(place, failed))
        raise
    left = reader.attempt("its artifacts could not be read", lambda: _artifacts(given.arguments)) or Left()
    reader.attempt("its artifacts could not be kept", lambda: _left(given.stage).write(place, left))


def _artifacts(arguments: Sequence[str]) -> Left:
    """On Vertex AI, the artifacts that the service passed to the stage, and those that the stage reported."""
    if _EXECUTOR_INPUT not in arguments:
        return Left()
    call = json.loads(arguments[arguments.index(_EXECUTOR_INPUT) + 1])
    reported = json.loads(atomic_io.read_text(call["outputs"]["outputFile"])).get("artifacts", {})
    made = {key: value["artifacts"] for key, value in call["outputs"].get("artifacts", {}).items()}
    for key, artifacts in made.items():
        for artifact, update in zip(artifacts, reported.get(key, {}).get("artifacts", []), strict=False):
            artifact |= {"uri": update.get("uri") or artifact["uri"], "metadata": update.get("metadata", {})}
    read = {key: value.get("artifacts", []) for key, value in call.get("inputs", {}).get("artifacts", {}).items()}

    def outputs(named: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[Output]]:
        return {key: [Output(0, one["uri"], one.get("metadata", {})) for one in found] for key, found in named.items()}

    return Left(inputs=outputs(read), outputs=outputs(made))


def _end(given: argparse.Namespace) -> None:
    """Ends the run; never fails it."""
    from pipeline.runners.ending import Execution, end_remote_run

    settings = from_dict(json.loads(given.settings), Settings)
    wiring: dict[str, dict[str, list[str]]] = json.loads(given.stages)
    reader = Reader({}, logging.ERROR)
    place = parts_folder(given.root, given.run)
    lefts = {stage: left for stage in wiring if (left := _read_left(place, stage))}
    blamed = {stage: Cause(left.message, left.blame) for stage, left in lefts.items() if left.message}
    store = None
    if given.executor_input:
        failed = _failed_on_vertex(json.loads(given.executor_input))
        wiring = {stage: read for stage, read in wiring.items() if stage not in RESOLVERS}  # which have no pods there
        nodes = _nodes(lefts, wiring, succeeded=not failed)
    else:
        failed = _failed_on_argo(given.status, given.failures, list(wiring))
        store = reader.attempt("ML Metadata could not be reached", _connect)
        nodes = (store and reader.attempt("ML Metadata could not be read", lambda: node_runs(store, given.run))) or {}
    monitor = Shared(settings.name, given.root, given.run)
    beats = reader.attempt("the stages' times could not be read", lambda: monitor.stages) or {}
    began = min((beat.started for beat in beats.values()), default=time.time())
    order = sorted(beats, key=lambda stage: beats[stage].started)
    execution = Execution(
        lambda: (round(time.time() - began, 1), 0),
        monitor,
        run_id=given.run,
        nodes=list(wiring),
        stages=[Stage(stage, beats[stage].seconds, None, cached=False) for stage in order],
        notes=reader.problems,
    )
    if failed:  # otherwise the failed stage was retried and succeeded
        execution.failed_stage, execution.cause = next(iter((blamed or failed).items()))
    ended = end_remote_run(settings, given.root, execution, nodes, store)
    for words in (ended.status, *(one.message for one in ended.failures), *(f"note: {one}" for one in ended.notes)):
        logging.getLogger(__name__).info("%s", words)
    reader.attempt("what the pods kept could not be deleted", monitor.forget)


def _read_left(place: str, stage: str) -> Left | None:
    try:
        return _left(stage).read(place)
    except Exception:  # whatever a file system raises: its pod never began, or was killed
        return None


def _failed_on_argo(status: str, failures: str, stages: Sequence[str]) -> dict[str | None, Cause]:
    """The stages that failed, and why, in Argo's words, which it passes as quoted JSON; empty if none failed."""
    if status == "Succeeded":
        return {}
    found: dict[str | None, Cause] = {}
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        said = json.loads(failures)
        for one in json.loads(said) if isinstance(said, str) else said:
            step = re.sub(r"\(\d+\)$", "", one["displayName"])  # `trainer(0)` is its first try
            stage = next((name for name in stages if name.lower() == step), None)
            if stage:
                found[stage] = Cause(f"{stage}: {one.get('message') or one.get('phase')}", "machine")
    return found or {None: Cause(f"the workflow ended as {status}", "machine")}


def _failed_on_vertex(call: Mapping[str, Any]) -> dict[str | None, Cause]:
    """The same for Vertex AI, which does not say which stage failed."""
    status = json.loads(call["inputs"]["parameterValues"][STATUS])  # a PipelineTaskFinalStatus
    if status["state"] == "SUCCEEDED":
        return {}
    message = (status.get("error") or {}).get("message") or f"the pipeline ended as {status['state']}"
    return {None: Cause(message, "machine")}


def _connect() -> MetadataStore:
    """The cluster's ML Metadata, at the address in its config map."""
    host, port = os.environ["METADATA_GRPC_SERVICE_HOST"], int(os.environ["METADATA_GRPC_SERVICE_PORT"])
    return MetadataStore(metadata_store_pb2.MetadataStoreClientConfig(host=host, port=port))


def _nodes(
    lefts: Mapping[str, Left], wiring: Mapping[str, Mapping[str, Sequence[str]]], succeeded: bool
) -> dict[str, NodeRun]:
    """The stages as the pods know them; of one that the service took from its cache, only what other stages read."""
    nodes = {
        stage: NodeRun(stage, "failed" if left.message else "complete", left.outputs, left.inputs)
        for stage, left in lefts.items()
    }
    cached = {stage: NodeRun(stage, "cached", {}) for stage in wiring if stage not in nodes and succeeded}
    for stage, left in lefts.items():
        for name, artifacts in left.inputs.items():
            producer, output = wiring[stage].get(name, ("", ""))
            if producer in cached:
                cached[producer].outputs[output] = artifacts
    return nodes | cached


if __name__ == "__main__":
    main(sys.argv[1:])
