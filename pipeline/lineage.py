"""What ML Metadata says about a run: which nodes ran, how they ended, and what they left."""

from __future__ import annotations

import dataclasses

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

_STATES = {
    pb.Execution.COMPLETE: "complete",
    pb.Execution.CACHED: "cached",
    pb.Execution.FAILED: "failed",
    pb.Execution.CANCELED: "failed",
}


@dataclasses.dataclass(frozen=True)
class Output:
    """An artifact that a node left."""

    id: int
    uri: str
    properties: dict[str, int | float | str]


@dataclasses.dataclass(frozen=True)
class NodeRun:
    """One node of one run; `state` is complete, cached, failed or running."""

    id: str
    state: str
    outputs: dict[str, list[Output]]


def latest_run_id(store: MetadataStore, pipeline_name: str) -> str | None:
    """The newest run of the pipeline, or None."""
    pipeline = store.get_context_by_type_and_name("pipeline", pipeline_name)
    runs = (
        [c for c in store.get_children_contexts_by_context(pipeline.id) if c.type == "pipeline_run"] if pipeline else []
    )
    return max(runs, key=lambda c: c.id).name if runs else None


def node_runs(store: MetadataStore, run_id: str) -> dict[str, NodeRun]:
    """All nodes of a run that were started, by node id."""
    context = store.get_context_by_type_and_name("pipeline_run", run_id)
    if context is None:
        return {}
    executions = sorted(store.get_executions_by_context(context.id), key=lambda e: e.id)
    events = store.get_events_by_execution_ids([e.id for e in executions]) if executions else []
    outputs = [e for e in events if e.type in (pb.Event.OUTPUT, pb.Event.DECLARED_OUTPUT)]
    artifacts = (
        {a.id: a for a in store.get_artifacts_by_id(sorted({e.artifact_id for e in outputs}))} if outputs else {}
    )
    runs: dict[str, NodeRun] = {}
    for execution in executions:
        node = _node_id(store, execution.id)
        left: dict[str, list[Output]] = {}
        for event in outputs:
            if event.execution_id == execution.id and event.artifact_id in artifacts:
                left.setdefault(event.path.steps[0].key, []).append(_output(artifacts[event.artifact_id]))
        runs[node] = NodeRun(node, _STATES.get(execution.last_known_state, "running"), left)
    return runs


def _node_id(store: MetadataStore, execution_id: int) -> str:
    for context in store.get_contexts_by_execution(execution_id):
        if context.type == "node":
            return context.name.split(".", 1)[1]
    raise LookupError(f"execution {execution_id} belongs to no node")


def _output(artifact: pb.Artifact) -> Output:
    properties: dict[str, int | float | str] = {}
    for source in (artifact.properties, artifact.custom_properties):
        for name, value in source.items():
            kind = value.WhichOneof("value")
            if kind in ("int_value", "double_value", "string_value"):
                properties[name] = getattr(value, kind)
    return Output(artifact.id, artifact.uri, properties)
