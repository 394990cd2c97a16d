"""Executes a KFP v2 spec as Vertex AI Pipelines would, each container as a process on local files.

The service's own part is played here, as far as a TFX pipeline sees it: it makes ExecutorInputs, runs the drivers that
come before the cache is looked at, answers resolvers from its metadata store, reuses what an equal task left, and takes
what executors report. https://github.com/kubeflow/pipelines/blob/master/api/v2alpha1/pipeline_spec.proto
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2 as pb

from tests.ports.containers import Node, run_graph

_INPUT = "{{$}}"
_REFERENCE = re.compile(r"\{\{\$\.inputs\.artifacts\['(\w+)'\]\.metadata\['(\w+)'\]\}\}")

Artifacts = dict[str, list[pb.RuntimeArtifact]]


class Vertex:
    """A project: its metadata store lives as long as the object, over several runs.

    Attributes:
        executed: of the last run, the tasks whose containers ran, in the order in which they ended.
        cached: of the last run, the tasks whose outputs were reused.
        outputs: of the last run, task -> output -> artifacts.
    """

    def __init__(self, folder: Path, node: Node) -> None:
        self._folder = folder
        self._node = node
        self._runs = 0
        self._store: list[pb.RuntimeArtifact] = []
        self._cache: dict[str, Artifacts] = {}
        self.executed: list[str] = []
        self.cached: list[str] = []
        self.outputs: dict[str, Artifacts] = {}

    def run(self, file: Path, pipeline_root: Path, parameters: Mapping[str, str]) -> None:
        """Runs a spec (YAML) to its end: the stages, and whatever becomes of them the exit handler.

        Args:
            file: the compiled spec.
            pipeline_root: gets a folder for each task.
            parameters: override the spec's defaults.

        Raises:
            json_format.ParseError: the spec has a field that KFP does not know.
            ValueError: a parameter without a default is not given.
        """
        spec = json_format.ParseDict(yaml.safe_load(file.read_text()), pb.PipelineSpec())
        deployment = json_format.ParseDict(
            json_format.MessageToDict(spec.deployment_spec), pb.PipelineDeploymentConfig()
        )
        values: dict[str, Any] = {}
        for name, definition in spec.root.input_definitions.parameters.items():
            if definition.HasField("default_value"):
                values[name] = json_format.MessageToDict(definition.default_value)
        values |= parameters
        missing = spec.root.input_definitions.parameters.keys() - values.keys()
        if missing:
            raise ValueError(f"no value is given for the parameters {missing}")
        self._runs += 1
        self.executed, self.cached, self.outputs = [], [], {}
        (stages, handler) = sorted(spec.root.dag.tasks.values(), key=lambda task: len(task.dependent_tasks))
        inner = spec.components[stages.component_ref.name]
        passed = {name: values[one.component_input_parameter] for name, one in stages.inputs.parameters.items()}
        assert passed.keys() == inner.input_definitions.parameters.keys()
        tasks = inner.dag.tasks
        root = pipeline_root / f"run-{self._runs}"
        job = {"{{$.pipeline_root}}": str(pipeline_root), "{{$.pipeline_job_name}}": root.name}

        def run(name: str) -> None:
            task = tasks[name]
            component = spec.components[task.component_ref.name]
            executor = deployment.executors[component.executor_label]
            inputs = {
                key: self.outputs[source.task_output_artifact.producer_task].get(
                    source.task_output_artifact.output_artifact_key, []
                )
                for key, source in task.inputs.artifacts.items()
            }
            if executor.WhichOneof("spec") == "resolver":
                self.outputs[name] = self._resolve(executor.resolver, inputs)
                return
            call = _executor_input(task, component, inputs, passed, root / name)
            self.outputs[name] = self._execute(name, task, executor.container, call, job)

        dependencies = {
            name: {*task.dependent_tasks}
            | {source.task_output_artifact.producer_task for source in task.inputs.artifacts.values()}
            for name, task in tasks.items()
        }
        status: dict[str, Any] = {"state": "FAILED", "error": {"code": 9, "message": "The DAG failed."}}
        try:
            run_graph(dependencies, run)
            status = {"state": "SUCCEEDED"}
        finally:
            assert handler.trigger_policy.strategy == handler.trigger_policy.ALL_UPSTREAM_TASKS_COMPLETED
            ((name, told),) = handler.inputs.parameters.items()
            assert [told.task_final_status.producer_task] == list(handler.dependent_tasks) == [stages.task_info.name]
            container = deployment.executors[spec.components[handler.component_ref.name].executor_label].container
            call = json.dumps({"inputs": {"parameterValues": {name: json.dumps(status)}}, "outputs": {}})
            command = [*container.command, *container.args]
            command = [job.get(part, call if part == _INPUT else part) for part in command]
            self._node.run(command, self._folder / root.name / handler.task_info.name, _variables(container))

    def _execute(
        self,
        name: str,
        task: pb.PipelineTaskSpec,
        container: pb.PipelineDeploymentConfig.PipelineContainerSpec,
        call: pb.ExecutorInput,
        job: Mapping[str, str],
    ) -> Artifacts:
        """Runs the container, or finds what an equal task left."""
        folder = self._folder / f"run-{self._runs}" / name
        text = json_format.MessageToJson(call)

        def start(command: list[str]) -> None:
            parts = [job.get(part, text if part == _INPUT else part) for part in command]
            self._node.run(parts, folder, _variables(container))

        report = Path(call.outputs.output_file)
        before = container.lifecycle.pre_cache_check
        if before.command:
            start([*before.command, *before.args])
            driven = json_format.Parse(report.read_text(), pb.ExecutorOutput())
            for parameter, value in driven.parameter_values.items():  # such as the fingerprint of the files
                call.inputs.parameter_values[parameter].CopyFrom(value)
        inputs = json_format.MessageToJson(call.inputs, sort_keys=True)
        key = json.dumps([container.image, *container.command, *container.args, inputs])
        if task.caching_options.enable_cache and key in self._cache:
            self.cached.append(name)
            return self._cache[key]
        start([*container.command, *container.args])
        reported = json_format.Parse(report.read_text(), pb.ExecutorOutput())
        outputs: Artifacts = {}
        for output, made in call.outputs.artifacts.items():
            for artifact, update in zip(made.artifacts, reported.artifacts[output].artifacts, strict=False):
                artifact.uri = update.uri or artifact.uri
                artifact.metadata.MergeFrom(update.metadata)
            outputs[output] = list(made.artifacts)
            self._store.extend(made.artifacts)
        self.executed.append(name)
        self._cache[key] = outputs
        return outputs

    def _resolve(self, resolver: pb.PipelineDeploymentConfig.ResolverSpec, inputs: Artifacts) -> Artifacts:
        """The newest artifact that fits each query, or none."""
        found: Artifacts = {}
        for output, query in resolver.output_artifact_queries.items():
            conditions = [_condition(text, inputs) for text in query.filter.split(" AND ")]
            fitting = [a for a in self._store if all(_value(a, field) == wanted for field, wanted in conditions)]
            found[output] = fitting[-1:]
        return found


def _executor_input(
    task: pb.PipelineTaskSpec, component: pb.ComponentSpec, inputs: Artifacts, values: Mapping[str, Any], home: Path
) -> pb.ExecutorInput:
    call = pb.ExecutorInput()
    for key, parameter in task.inputs.parameters.items():
        kind = parameter.WhichOneof("kind")
        if kind == "runtime_value":
            call.inputs.parameter_values[key].CopyFrom(parameter.runtime_value.constant)
        elif kind == "component_input_parameter":
            json_format.ParseDict(values[parameter.component_input_parameter], call.inputs.parameter_values[key])
        else:
            raise NotImplementedError(f"{key}: {kind}")
    for key, artifacts in inputs.items():
        call.inputs.artifacts[key].artifacts.extend(artifacts)
    for key, definition in component.output_definitions.artifacts.items():
        artifact = call.outputs.artifacts[key].artifacts.add()
        artifact.name = (
            f"projects/1/locations/here/metadataStores/default/artifacts/{home.parent.name}-{home.name}-{key}"
        )
        artifact.uri = str(home / key)
        artifact.type.CopyFrom(definition.artifact_type)
    home.mkdir(parents=True)  # only the folder above the artifacts: each executor makes its own
    call.outputs.output_file = str(home / "executor_output.json")
    return call


def _variables(container: pb.PipelineDeploymentConfig.PipelineContainerSpec) -> dict[str, str]:
    return {variable.name: variable.value for variable in container.env}


def _condition(text: str, inputs: Artifacts) -> tuple[str, Any]:
    """One part of a query: which field must have which value; a value no input gives fits no artifact."""
    field, value = text.split("=", 1)
    reference = _REFERENCE.search(value)
    if reference:
        sources = inputs[reference.group(1)]
        return field, _value(sources[0], f"metadata.{reference.group(2)}") if sources else object()
    return field, value.strip('"') if value.startswith('"') else float(value) if _is_number(value) else value


def _value(artifact: pb.RuntimeArtifact, field: str) -> Any:
    """A field of an artifact, as queries name them."""
    if field == "schema_title":
        return yaml.safe_load(artifact.type.instance_schema)["title"]
    if field == "state":
        return "LIVE"
    if field == "name":
        return artifact.name
    return json_format.MessageToDict(artifact.metadata).get(field.split(".")[1])


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None
