"""What ML Metadata says about a run: which nodes ran, how they ended, and what they left."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from core.artifacts.base import Artifact
from core.artifacts.nodes import RESOLVERS
from core.errors import InputError

T = TypeVar("T")

RUN = "pipeline_run"  # type of the contexts that stand for a run

_STATES = {
    pb.Execution.COMPLETE: "complete",
    pb.Execution.CACHED: "cached",
    pb.Execution.FAILED: "failed",
    pb.Execution.CANCELED: "failed",
}
_INPUTS = (pb.Event.INPUT, pb.Event.DECLARED_INPUT)
_OUTPUTS = (pb.Event.OUTPUT, pb.Event.DECLARED_OUTPUT)


@dataclasses.dataclass(frozen=True)
class Output:
    """An artifact that a node left."""

    id: int
    uri: str
    properties: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class NodeRun:
    """One node of one run.

    Attributes:
        state: complete, cached, failed or running.
        outputs: what it left, by output name; for a cached node, what an earlier execution left.
        inputs: what it read, by input name.
    """

    id: str
    state: str
    outputs: dict[str, list[Output]]
    inputs: dict[str, list[Output]] = dataclasses.field(default_factory=dict)
    execution: int = 0

    @property
    def finished(self) -> bool:
        """Whether it finished, so that its outputs are complete."""
        return self.state in ("complete", "cached")

    @property
    def cached(self) -> bool:
        """Whether it was served from the cache; a resolver never is, though ML Metadata says so."""
        return self.state == "cached" and self.id not in RESOLVERS


def output(nodes: Mapping[str, NodeRun], artifact: Artifact) -> Output | None:
    """The first artifact of an output; None if the node did not finish, or has none."""
    run = nodes.get(artifact.node)
    return next(iter(run.outputs.get(artifact.output, [])), None) if run and run.finished else None


def uri_of(nodes: Mapping[str, NodeRun], artifact: Artifact) -> str:
    """The URI of an output of the last run's nodes. Raises InputError where there is none."""
    found = output(nodes, artifact)
    if found is None:
        raise InputError(
            f"the last run has no {artifact.output} of {artifact.node}; run the pipeline with these settings first"
        )
    return found.uri


class Reader:
    """Reads what nodes left, and attempts what may fail; each failure becomes a sentence in `problems`."""

    def __init__(self, nodes: Mapping[str, NodeRun], level: int = logging.INFO) -> None:
        """`level`: at which the traceback is logged."""
        self.nodes = nodes
        self.problems: list[str] = []
        self._level = level

    def read(self, artifact: Artifact, action: Callable[[str], T]) -> T | None:
        """What `action` returns for an artifact's URI; None, without a problem, if its node did not finish."""
        found = output(self.nodes, artifact)
        return self.attempt(f"cannot read what {artifact.node} left", lambda: action(found.uri)) if found else None

    def attempt(self, failure: str, action: Callable[[], T]) -> T | None:
        """What `action` returns; None if it fails."""
        try:
            return action()
        except Exception as error:  # whatever a damaged file raises: the rest is still worth reading
            logging.getLogger(__name__).log(self._level, failure, exc_info=True)
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            self.problems.append(f"{failure}: {kind}{error}; the log has the details")
            return None


def run_contexts(store: MetadataStore, pipeline_name: str) -> list[pb.Context]:
    """The contexts of the pipeline's runs, oldest first; their names are the runs' ids."""
    pipeline = store.get_context_by_type_and_name("pipeline", pipeline_name)
    children = store.get_children_contexts_by_context(pipeline.id) if pipeline else []
    return sorted((context for context in children if context.type == RUN), key=lambda context: context.id)


def latest_run_id(store: MetadataStore, pipeline_name: str) -> str | None:
    """The newest run of the pipeline, or None."""
    runs = run_contexts(store, pipeline_name)
    return runs[-1].name if runs else None


def node_runs(store: MetadataStore, run_id: str) -> dict[str, NodeRun]:
    """All nodes of a run that were started, by node id."""
    context = store.get_context_by_type_and_name(RUN, run_id)
    if context is None:
        return {}
    executions = sorted(store.get_executions_by_context(context.id), key=lambda e: e.id)
    events = store.get_events_by_execution_ids([e.id for e in executions]) if executions else []
    ids = sorted({e.artifact_id for e in events})
    artifacts = {a.id: a for a in store.get_artifacts_by_id(ids)} if ids else {}
    runs: dict[str, NodeRun] = {}
    for execution in executions:
        node = _node_id(store, execution)
        read: dict[str, list[Output]] = {}
        left: dict[str, list[Output]] = {}
        for event in events:
            side = read if event.type in _INPUTS else left if event.type in _OUTPUTS else None
            if side is not None and event.execution_id == execution.id and event.artifact_id in artifacts:
                side.setdefault(event.path.steps[0].key, []).append(output_of(artifacts[event.artifact_id]))
        runs[node] = NodeRun(node, _STATES.get(execution.last_known_state, "running"), left, read, execution.id)
    return runs


def makers(store: MetadataStore, nodes: Mapping[str, NodeRun]) -> dict[int, tuple[int, str]]:
    """Which execution of which run made each artifact that nodes left; a cached node's are from an earlier run."""
    ids = {artifact.id for node in nodes.values() for made in node.outputs.values() for artifact in made}
    made: dict[int, int] = {}
    for event in store.get_events_by_artifact_ids(sorted(ids)) if ids else []:
        if event.type in _OUTPUTS:
            made[event.artifact_id] = min(event.execution_id, made.get(event.artifact_id, event.execution_id))
    runs = {
        execution: next((c.name for c in store.get_contexts_by_execution(execution) if c.type == RUN), "")
        for execution in set(made.values())
    }
    return {artifact: (execution, runs[execution]) for artifact, execution in made.items()}


def output_of(artifact: pb.Artifact) -> Output:
    """An artifact of ML Metadata with its properties as plain values."""
    sources = (artifact.properties, artifact.custom_properties)
    values = [(name, value, value.WhichOneof("value")) for source in sources for name, value in source.items()]
    return Output(artifact.id, artifact.uri, {name: getattr(value, kind) for name, value, kind in values if kind})


def _node_id(store: MetadataStore, execution: pb.Execution) -> str:
    for context in store.get_contexts_by_execution(execution.id):
        if context.type == "node":
            return context.name.split(".", 1)[1]
    raise LookupError(f"execution {execution.id} belongs to no node")
