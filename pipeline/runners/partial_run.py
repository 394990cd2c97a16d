"""Runs some stages only, on an earlier run's artifacts: TFX's partial runs, by its marks in the compiled pipeline."""

from __future__ import annotations

import copy

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb
from tfx.dsl.compiler import constants
from tfx.dsl.io import fileio
from tfx.orchestration.local import runner_utils
from tfx.orchestration.metadata import Metadata
from tfx.orchestration.portable import partial_run_utils, runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from core.errors import InputError
from core.settings.messages import nearest
from pipeline.runs.lineage import NodeRun, node_runs, run_contexts

_REQUIRED = pipeline_pb2.NodeExecutionOptions.Skip.REQUIRED


def mark(pipeline: pipeline_pb2.Pipeline, first: str | None, last: str | None, store: MetadataStore) -> str | None:
    """Marks the stages from `first` to `last` (None: the pipeline's own) as those to run.

    Returns:
        The id of the run whose results replace those of the stages before: the latest that has all of them; None if
        none are needed.

    Raises:
        InputError: there is no such stage, `last` does not come after `first`, or no run has got that far.
    """
    names = [node.pipeline_node.node_info.id for node in pipeline.nodes]
    for option, name in (("--from", first), ("--to", last)):
        if name is not None and name not in names:
            raise InputError(f"{option} {name}: there is no such stage; {nearest(name, names, listed='there are')}")
    partial_run_utils.mark_pipeline(pipeline, [first] if first else None, [last] if last else None)
    if not to_run(pipeline):
        raise InputError(f"--from {first} --to {last}: {last} does not come after {first}, so there is nothing to run")
    needed = [node.node_info.id for node in _nodes(pipeline) if _skip(node).reuse_artifacts_mode == _REQUIRED]
    if not needed:
        return None
    missing = needed[0]
    for run in reversed(run_contexts(store, pipeline.pipeline_info.id)):
        found = node_runs(store, run.name)
        lost = [name for name in needed if name not in found or not found[name].finished]
        lost += [name for name in needed if name not in lost and not _whole(store, found[name])]
        if not lost:
            settings = pipeline.runtime_spec.snapshot_settings
            partial_run_utils.set_base_pipeline_run_strategy(settings, run.name)
            return run.name
        missing = lost[0]
    raise InputError(
        f"--from {first}: no earlier run has left all that it needs (that of {missing} is missing): run the whole "
        "pipeline first"
    )


def to_run(pipeline: pipeline_pb2.Pipeline) -> list[str]:
    """The stages that are not marked as skipped."""
    return [node.node_info.id for node in _nodes(pipeline) if not node.execution_options.HasField("skip")]


def take_over(pipeline: pipeline_pb2.Pipeline, run_id: str) -> None:
    """Makes the earlier run's artifacts part of the new run, as if found in the cache; does nothing without marks."""
    if not pipeline.runtime_spec.snapshot_settings.HasField("base_pipeline_run_strategy"):
        return
    pipeline = copy.deepcopy(pipeline)  # which may be run again, under another id
    run = {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    runtime_parameter_utils.substitute_runtime_parameter(pipeline, run)
    config = runner_utils.extract_local_deployment_config(pipeline).metadata_connection_config
    with Metadata(getattr(config, config.WhichOneof("connection_config"))) as metadata:
        partial_run_utils.snapshot(metadata, pipeline)


def _nodes(pipeline: pipeline_pb2.Pipeline) -> list[pipeline_pb2.PipelineNode]:
    return [node.pipeline_node for node in pipeline.nodes]


def _skip(node: pipeline_pb2.PipelineNode) -> pipeline_pb2.NodeExecutionOptions.Skip:
    return node.execution_options.skip


def _whole(store: MetadataStore, node: NodeRun) -> bool:
    """Whether all artifacts of a stage still exist."""
    ids = [artifact.id for outputs in node.outputs.values() for artifact in outputs]
    found = store.get_artifacts_by_id(ids) if ids else []
    return all(artifact.state == pb.Artifact.LIVE and fileio.exists(artifact.uri) for artifact in found)
