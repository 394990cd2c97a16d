"""How a component runs in an Airflow task: TFX's launcher, with what it lacks there put right.

TFX's other runners launch components from an intermediate representation; on Airflow it still uses the launcher of
before. What works elsewhere and not with that one is mended here:

- Beam options of one component (`with_beam_pipeline_args`) are ignored.
- A Resolver that is wired to a component of the run sees what that component made in every run.
- A task with inputs cannot be tried again: its second try registers them once more, which ML Metadata refuses.
- A task that is tried again writes beside what its failed try left, and publishes each output twice; then whatever
  reads it fails, in this run and where the result is reused.
- Artifacts are named by output and run alone, so that two components cannot both have an output `blessing`.
"""

from __future__ import annotations

from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.dsl.components.common import resolver
from tfx.dsl.io import fileio
from tfx.orchestration import data_types
from tfx.orchestration.launcher.in_process_component_launcher import InProcessComponentLauncher
from tfx.orchestration.metadata import Metadata
from tfx.types import artifact_utils


class AirflowLauncher(InProcessComponentLauncher):
    """Runs driver, executor and publisher of one component in this process."""

    def __init__(
        self, component: BaseNode, metadata_connection: Metadata, beam_pipeline_args: list[str] | None, **others: Any
    ) -> None:
        """As TFX calls it, for `tfx.orchestration.airflow.airflow_component`."""
        if isinstance(component.executor_spec, BeamExecutorSpec):
            beam_pipeline_args = list(component.executor_spec.beam_pipeline_args)  # holds the pipeline's as well
        super().__init__(
            component=component,
            metadata_connection=_RetriedMetadata(metadata_connection._connection_config),
            beam_pipeline_args=beam_pipeline_args,
            **others,
        )
        if isinstance(component, resolver.Resolver):
            self._driver_class = _RunResolverDriver

    def _run_executor(
        self,
        execution_id: int,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        for artifacts in output_dict.values():
            for artifact in artifacts:  # a try before may have left files; they would be taken for this one's
                fileio.rmtree(artifact.uri)
                fileio.makedirs(artifact.uri)
        super()._run_executor(execution_id, input_dict, output_dict, exec_properties)


class _RetriedMetadata(Metadata):
    """What a try has registered, inputs or outputs, is the same in the next one; outputs have names of their own."""

    _known_inputs: frozenset[int] = frozenset()

    def register_execution(
        self, pipeline_info: data_types.PipelineInfo, component_info: data_types.ComponentInfo, **others: Any
    ) -> metadata_store_pb2.Execution:
        context = self.get_component_run_context(component_info)
        tries = self.store.get_executions_by_context(context.id) if context else []
        events = self.store.get_events_by_execution_ids([execution.id for execution in tries]) if tries else []
        self._known_inputs = frozenset(e.artifact_id for e in events if e.type == metadata_store_pb2.Event.INPUT)
        return super().register_execution(pipeline_info=pipeline_info, component_info=component_info, **others)

    def _artifact_and_event_pairs(
        self,
        artifact_dict: dict[str, list[types.Artifact]],
        event_type: metadata_store_pb2.Event.Type,
        new_state: str | None = None,
        registered_artifacts_ids: set[int] | None = None,
    ) -> list[tuple[Any, ...]]:
        known = set(registered_artifacts_ids or ())
        if event_type == metadata_store_pb2.Event.INPUT:
            known |= self._known_inputs
        return super()._artifact_and_event_pairs(artifact_dict, event_type, new_state, known)

    def update_execution(
        self,
        execution: metadata_store_pb2.Execution,
        component_info: data_types.ComponentInfo,
        output_artifacts: dict[str, list[types.Artifact]] | None = None,
        **others: Any,
    ) -> None:
        for key, artifacts in (output_artifacts or {}).items():
            for index, artifact in enumerate(artifacts):
                if not artifact.id:  # ML Metadata wants names that are unique among the artifacts of a type
                    artifact.name = f"{component_info.component_id}:{key}:{index}:{component_info.pipeline_info.run_id}"
        for event in self.store.get_events_by_execution_ids([execution.id]):
            if event.type == metadata_store_pb2.Event.OUTPUT:
                key, index = event.path.steps[0].key, event.path.steps[1].index
                artifact = (output_artifacts or {})[key][index]
                if not artifact.id:
                    artifact.id = event.artifact_id
                    artifact.set_mlmd_artifact_type(self._prepare_artifact_type(artifact.artifact_type))
        super().update_execution(execution, component_info, output_artifacts=output_artifacts, **others)

    def _get_outputs_of_events(self, events: list[metadata_store_pb2.Event]) -> dict[str, list[types.Artifact]] | None:
        """As in TFX, which takes the artifacts' types in the order of their ids, not of the artifacts."""
        outputs: dict[str, list[types.Artifact]] = {}
        events = [event for event in events if event.type == metadata_store_pb2.Event.OUTPUT]
        artifacts = {
            artifact.id: artifact for artifact in self.store.get_artifacts_by_id([e.artifact_id for e in events])
        }
        kinds = {kind.id: kind for kind in self.store.get_artifact_types()}
        for event in sorted(events, key=lambda event: event.path.steps[1].index):
            artifact = artifacts[event.artifact_id]
            found = artifact_utils.deserialize_artifact(kinds[artifact.type_id], artifact)
            outputs.setdefault(event.path.steps[0].key, []).append(found)
        return outputs


class _RunResolverDriver(resolver._ResolverDriver):
    """Resolves what is wired to a component to what that component made in this run."""

    def _build_input_dict(
        self, pipeline_info: data_types.PipelineInfo, input_channels: dict[str, types.BaseChannel]
    ) -> dict[str, list[types.Artifact]]:
        found = super()._build_input_dict(pipeline_info, input_channels)
        for key, channel in input_channels.items():
            if channel.producer_component_id:
                found[key] = self._metadata_handle.search_artifacts(
                    artifact_name=channel.output_key,
                    pipeline_info=pipeline_info,
                    producer_component_id=channel.producer_component_id,
                )
        return found
