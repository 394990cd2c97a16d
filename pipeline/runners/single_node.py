"""Runs one node of a pipeline in this process, for orchestrators that start a task or a process for each node."""

from __future__ import annotations

import contextlib
from typing import Any

from tfx.dsl.compiler import constants
from tfx.dsl.io import fileio
from tfx.orchestration.local import runner_utils
from tfx.orchestration.metadata import ConnectionConfigType, Metadata
from tfx.orchestration.portable import data_types, launcher, runtime_parameter_utils, tfx_runner
from tfx.proto.orchestration import execution_result_pb2, pipeline_pb2

from core import atomic_io
from core.artifacts.nodes import NEVER_CACHED
from pipeline.runs import integrity
from pipeline.runs.lineage import node_runs


class SingleNodeRunner(tfx_runner.IrBasedRunner):
    """Runs a node of a run whose earlier nodes have finished; can be retried, however the first attempt ended."""

    def __init__(self, node_id: str, run_id: str, lock: contextlib.AbstractContextManager[Any] | None = None) -> None:
        """`lock` is held while the node talks to ML Metadata: in its SQLite, two processes can deadlock."""
        self._node_id = node_id
        self._run_id = run_id
        self._lock = lock or contextlib.nullcontext()

    def run_with_ir(self, pipeline: pipeline_pb2.Pipeline, run_options: pipeline_pb2.RunOptions | None = None) -> None:
        """Called by `run`.

        Raises:
            RuntimeError: the node's inputs are missing; otherwise whatever its executor raises.
        """
        run_id = {constants.PIPELINE_RUN_ID_PARAMETER_NAME: self._run_id}
        runtime_parameter_utils.substitute_runtime_parameter(pipeline, run_id)
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        config = deployment.metadata_connection_config
        metadata = _Metadata(getattr(config, config.WhichOneof("connection_config")), self._lock)
        if self._finished(metadata):
            return  # by a task that was lost before the orchestrator learned that it had finished
        nodes = {node.pipeline_node.node_info.id: node.pipeline_node for node in pipeline.nodes}
        if self._node_id in NEVER_CACHED:
            nodes[self._node_id].execution_options.caching_options.enable_cache = False
        _Launcher(
            pipeline_node=nodes[self._node_id],
            mlmd_connection=metadata,
            pipeline_info=pipeline.pipeline_info,
            pipeline_runtime_spec=pipeline.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(deployment, self._node_id),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, self._node_id),
        ).launch()
        if not self._finished(metadata):  # TFX's launcher only logs that
            raise RuntimeError(f"the inputs of {self._node_id} could not be resolved; the log says why")

    def _finished(self, metadata: Metadata) -> bool:
        with metadata:
            node = node_runs(metadata.store, self._run_id).get(self._node_id)
        return node is not None and node.finished


class _Metadata(Metadata):
    def __init__(self, config: ConnectionConfigType, lock: contextlib.AbstractContextManager[Any]) -> None:
        super().__init__(config)
        self._lock = lock

    def __enter__(self) -> Metadata:
        self._lock.__enter__()
        return super().__enter__()

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        self._lock.__exit__(*exc)


class _Launcher(launcher.Launcher):
    def _run_executor(self, execution_info: data_types.ExecutionInfo) -> execution_result_pb2.ExecutorOutput:
        for artifacts in execution_info.output_dict.values():
            for artifact in artifacts:  # a killed attempt may have left files, which would be mistaken for this one's
                if fileio.exists(artifact.uri):
                    fileio.rmtree(artifact.uri)
        output = super()._run_executor(execution_info)
        for key, artifacts in execution_info.output_dict.items():
            of_executor = {one.uri: one for one in output.output_artifacts[key].artifacts}
            for artifact in artifacts:
                atomic_io.sync(artifact.uri)  # before ML Metadata says that it exists
                if files := integrity.describe(artifact.uri):
                    for described in (artifact.mlmd_artifact, of_executor.get(artifact.uri, artifact.mlmd_artifact)):
                        described.custom_properties[integrity.FILES].string_value = files
        return output
