"""Compiles the pipeline for Kubeflow: an Argo workflow for your own cluster, or a KFP v2 spec for Vertex AI.

Two targets, because neither serves for both. Kubeflow's own v2 backend has no resolvers and hands artifacts over
without their types (tensorflow/tfx#7768), so your own cluster runs TFX's v1 launcher in an Argo workflow, where
all of TFX works. Vertex AI takes v2 specs only; there, the service itself does the work of TFX's resolvers.

Compiling needs no cluster and no network. Nothing about this machine gets into the spec: a folder that containers
cannot see does not become a parameter's default, so it must be given when a run is started.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from google.protobuf import json_format
from kfp import dsl, onprem
from kubernetes.client import ApiClient, V1EnvVar, V1EnvVarSource, V1SecretKeySelector
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.kubeflow_dag_runner import (
    KubeflowDagRunner,
    KubeflowDagRunnerConfig,
    get_default_pipeline_operator_funcs,
)
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.pipeline import Pipeline
from tfx.types.channel import OutputChannel

from core import atomic_io, secrets, storage
from core.artifacts import tflite_files
from core.artifacts.exported_model import MODEL
from core.artifacts.features import EXTRACTED
from core.artifacts.nodes import NEVER_CACHED
from core.artifacts.predictions import PREDICTIONS, REGRESSIONS
from core.artifacts.verdict import BLESSING
from core.errors import InputError
from core.settings import Settings, to_dict
from core.settings.messages import nearest
from core.settings.runtime import KubeflowSettings, ResourceSettings
from core.uris import split_pattern
from pipeline import schema as schemas
from pipeline.deployment import Deployment, Resolvers, TfxResolvers, portable, push_to, train_args
from pipeline.pipeline import create_pipeline
from pipeline.runners import vertex_gate
from pipeline.runners.beam_engines import SEND_NOTHING
from pipeline.runners.pods import EXIT_HANDLER, STATUS
from pipeline.runs.run_dir import check_root

Target = Literal["cluster", "vertex"]

DATA_ROOT, PUSH_DESTINATION, TRAIN_ARGS, PIPELINE_ROOT = "data-root", "push-destination", "train-args", "pipeline-root"
"""Names of the parameters a run is started with. Vertex AI has its own field for the last."""

RESOURCES = {
    EXTRACTED.node: ResourceSettings(cpu=4, memory_gb=8, gpus=0),
    MODEL.node: ResourceSettings(cpu=4, memory_gb=8, gpus=0),
    tflite_files.MODEL.node: ResourceSettings(cpu=2, memory_gb=8, gpus=0),
    PREDICTIONS.node: ResourceSettings(cpu=2, memory_gb=8, gpus=0),
    REGRESSIONS.node: ResourceSettings(cpu=2, memory_gb=8, gpus=0),
}
"""What a stage asks for unless the settings say otherwise; any other asks for `SMALL`."""

SMALL = ResourceSettings(cpu=1, memory_gb=4, gpus=0)

_POD = ["python", "-m", "pipeline.runners.pods"]
_STEP, _STAGES = "exit-handler", "stages"  # Argo's name of the exit handler; in a KFP spec all that it waits for

STAGE_LABEL = "pipeline/stage"  # label of every pod on your own cluster; its value is the stage's id

# Between two starts of a stage that failed: a minute, then two, then four, at most ten.
_BACKOFF_SECONDS, _BACKOFF_FACTOR, _MAX_BACKOFF_SECONDS = 60, 2.0, 600

_UI_METADATA = "/tmp/mlpipeline-ui-metadata.json"  # the image's user may not write to `/`, TFX's default
_NONE = str(None)  # what TFX writes for a parameter without a default


def compile_pipeline(settings: Settings, target: Target, output: Path) -> list[str]:
    """Writes the spec, for `vertex` as `.yaml` or `.json` (a PipelineJob).

    Returns:
        Names of the parameters without a default: they must be given when a run is started.

    Raises:
        InputError: the schema is missing, or the settings name a folder that no container sees, an unknown stage, or
            something that the target cannot do.
    """
    kinds = {"cluster": (".yaml", ".yml"), "vertex": (".yaml", ".yml", ".json")}[target]
    if output.suffix not in kinds:
        raise InputError(f"the spec's file is {output}; for {target} its name must end in {' or '.join(kinds)}")
    if target == "vertex" and settings.kubeflow.volume is not None:
        raise InputError("kubeflow.volume: Vertex AI mounts no volume claims; keep everything in buckets (gs://…)")
    if target == "vertex" and secrets.refers(to_dict([settings.runtime.beam, settings.kubeflow])):
        raise InputError(
            "Vertex AI hands its containers no secrets, so references (${env:…}, ${secret:…}) in runtime.beam and "
            "kubeflow.environment cannot be resolved there: leave them out, and grant the pipeline's service account "
            "what its stages need"
        )
    if target == "vertex" and settings.serving.validator == "infra_validator":
        raise InputError("serving.validator is infra_validator, which Vertex AI cannot run: take serving_check")
    if target == "vertex" and (settings.training.warm_start or settings.data.window > 1):
        raise InputError(
            "training.warm_start and data.window need a resolver and a driver of this project, and Vertex AI runs only "
            "TFX's; leave them out"
        )
    if settings.serving.validator == "infra_validator" and settings.serving.infra_validator.platform == "docker":
        raise InputError("serving.infra_validator.platform is docker, which containers lack: take kubernetes")
    pipeline = create_pipeline(settings, _deployment(settings, target), schemas.load(settings.schema_file))
    resources = _resources(settings.kubeflow, [*(component.id for component in pipeline.components), EXIT_HANDLER])
    _require_variables(settings, pipeline)
    output.parent.mkdir(parents=True, exist_ok=True)
    compile_for = _compile_for_cluster if target == "cluster" else _compile_for_vertex
    return compile_for(settings, pipeline, resources, output)


def _deployment(settings: Settings, target: Target) -> Deployment:
    """The parameters of a run, with defaults where containers can see them."""
    kubeflow, images = settings.kubeflow, settings.data.images
    root = kubeflow.pipeline_root
    if root is not None:
        check_root(root)
        _require_visible(kubeflow, "kubeflow.pipeline_root", root)
    if settings.backbone.weights not in ("imagenet", "random"):
        _require_visible(kubeflow, "backbone.weights", settings.backbone.weights)
    if settings.evaluation.regressions:
        _require_visible(kubeflow, "evaluation.regressions", settings.evaluation.regressions)
    run_dir = root and f"{root.rstrip('/')}/{settings.name}"
    push = settings.push.directory.rstrip("/")
    if run_dir and not storage.is_remote(push) and not push.startswith("/"):
        push = f"{run_dir}/{push}"
    destination = json_format.MessageToJson(push_to(push), indent=None) if _visible(kubeflow, push) else None
    if not _visible(kubeflow, images):
        images = f"/{split_pattern(images)[1]}"
    steps = train_args(settings.training.steps)
    arguments = json_format.MessageToJson(steps, indent=None, preserving_proto_field_name=True)
    return Deployment(
        pipeline_root=run_dir or "",
        images=RuntimeParameter(DATA_ROOT, str, images),
        push_directory=RuntimeParameter(PUSH_DESTINATION, str, destination),
        train_args=RuntimeParameter(TRAIN_ARGS, str, arguments),
        resolvers=TfxResolvers() if target == "vertex" else Resolvers(),
    )


def _visible(kubeflow: KubeflowSettings, path: str) -> bool:
    """Whether containers see a path: one in a bucket, or below the mounted volume."""
    volume = kubeflow.volume
    return storage.is_remote(path) or (volume is not None and f"{path}/".startswith(f"{volume.path.rstrip('/')}/"))


def _require_visible(kubeflow: KubeflowSettings, setting: str, path: str) -> None:
    if not _visible(kubeflow, path):
        volume = kubeflow.volume
        where = f"a folder below {volume.path}" if volume else "kubeflow.volume to mount a volume claim"
        raise InputError(f"{setting} is {path}, which no container sees. Give a bucket's folder (gs://…), or {where}.")


def _require_variables(settings: Settings, pipeline: Pipeline) -> None:
    """Every container that runs Beam must be given the environment variables that `runtime.beam` refers to."""
    given = settings.kubeflow.environment
    stages = [one.id for one in pipeline.components if isinstance(one.executor_spec, BeamExecutorSpec)]
    for name in secrets.variables(to_dict(settings.runtime.beam)):
        if lacking := [stage for stage in stages if name not in given.get(stage, {})]:
            raise InputError(
                f"runtime.beam refers to ${{env:{name}}}, and the containers of {', '.join(lacking)} are not given "
                f'{name}: add it for each in kubeflow.environment, as {lacking[0]}: {{{name}: "${{secret:NAME/KEY}}"}}'
            )


def _resources(kubeflow: KubeflowSettings, ids: Sequence[str]) -> dict[str, ResourceSettings]:
    """The resources that each stage requests, with every field filled in."""
    for setting in ("resources", "environment"):
        for name in getattr(kubeflow, setting):
            if name not in ids:
                hint = nearest(name, ids, listed="there are")
                raise InputError(f"kubeflow.{setting}: there is no stage {name}; {hint}")
    filled = {name: RESOURCES.get(name, SMALL) for name in ids}
    for name, given in kubeflow.resources.items():
        asked = {field: value for field, value in dataclasses.asdict(given).items() if value is not None}
        filled[name] = dataclasses.replace(filled[name], **asked)
    return filled


def _compile_for_cluster(
    settings: Settings, pipeline: Pipeline, resources: dict[str, ResourceSettings], output: Path
) -> list[str]:
    kubeflow = settings.kubeflow

    def configure(container: dsl.ContainerOp) -> dsl.ContainerOp:
        stage = container.human_name
        asked = resources[stage]
        container.add_pod_label(STAGE_LABEL, stage)  # what a Service selects to give the stage's pod a name
        for name, value in kubeflow.environment.get(stage, {}).items():
            container.container.add_env_variable(_variable(name, value))
        container.container.add_resource_request("cpu", f"{asked.cpu:g}")
        container.container.add_resource_request("memory", f"{asked.memory_gb:g}Gi")
        if stage in NEVER_CACHED:
            container.container.args = _without_cache(container.container.args)
        if asked.gpus:
            container.container.set_gpu_limit(str(asked.gpus))
        if kubeflow.retries:
            container.set_retry(
                kubeflow.retries,
                policy="Always",  # not only of a container that failed, but of one that was evicted, too
                backoff_duration=str(_BACKOFF_SECONDS),
                backoff_factor=_BACKOFF_FACTOR,
                backoff_max_duration=str(_MAX_BACKOFF_SECONDS),
            )
        return container

    functions = [*get_default_pipeline_operator_funcs(), configure]
    if kubeflow.volume:
        functions.append(onprem.mount_pvc(kubeflow.volume.claim, "pipeline", kubeflow.volume.path))
    config = KubeflowDagRunnerConfig(
        pipeline_operator_funcs=functions, tfx_image=kubeflow.image, metadata_ui_path=_UI_METADATA
    )
    with tempfile.TemporaryDirectory() as folder:
        KubeflowDagRunner(output_dir=folder, output_filename="workflow.yaml", config=config).run(pipeline)
        workflow = yaml.safe_load((Path(folder) / "workflow.yaml").read_text(encoding="utf-8"))
    _watch_workflow(workflow, settings, pipeline, resources[EXIT_HANDLER])
    open_parameters = _open_workflow_parameters(workflow)
    atomic_io.write_text(output, yaml.safe_dump(workflow, sort_keys=False))
    return open_parameters


def _watch_workflow(
    workflow: dict[str, Any], settings: Settings, pipeline: Pipeline, resources: ResourceSettings
) -> None:
    """Wraps every stage of an Argo workflow in `pipeline.runners.pods`, and adds the exit handler."""
    spec, name = workflow["spec"], settings.name
    steps = [template for template in spec["templates"] if "container" in template]
    handler = copy.deepcopy(steps[0])  # the image, the volume, and how ML Metadata is reached
    for step in steps:
        container = step["container"]
        stage = step["metadata"]["labels"][STAGE_LABEL]
        root, module = f"{{{{inputs.parameters.{PIPELINE_ROOT}}}}}", container["command"][-1]
        watched = ["stage", "--root", root, "--run", "{{workflow.name}}", "--name", name, "--stage", stage]
        given = settings.kubeflow.environment.get(stage, {}).items()
        hidden = [f"--secret={variable}" for variable, value in given if secrets.KUBERNETES.fullmatch(value)]
        container["command"], container["args"] = _POD, [*watched, *hidden, module, *container["args"]]
    handler["name"] = spec["onExit"] = _STEP
    del handler["inputs"], handler["outputs"]
    handler["metadata"]["labels"][STAGE_LABEL] = EXIT_HANDLER
    container = handler["container"]
    container["command"] = _POD
    container["args"] = [
        *("end", "--root", f"{{{{workflow.parameters.{PIPELINE_ROOT}}}}}", "--run", "{{workflow.name}}"),
        *("--status", "{{workflow.status}}", "--failures", "{{workflow.failures}}"),
        *_known(settings, pipeline),
    ]
    container["resources"] = {"requests": {"cpu": f"{resources.cpu:g}", "memory": f"{resources.memory_gb:g}Gi"}}
    variables = [_variable(*one) for one in settings.kubeflow.environment.get(EXIT_HANDLER, {}).items()]
    container["env"] += [ApiClient().sanitize_for_serialization(variable) for variable in variables]
    spec["templates"].append(handler)


def _known(settings: Settings, pipeline: Pipeline) -> list[str]:
    """What the exit handler is told about the pipeline."""
    wiring = {
        component.id: {key: [channel.producer_component_id, channel.output_key] for key, channel in read.items()}
        for component in pipeline.components
        for read in [{key: one for key, one in component.inputs.items() if isinstance(one, OutputChannel)}]
    }
    plain = portable(settings)
    plain["data"]["images"] = DATA_ROOT  # settings are none without
    text = json.dumps(plain).replace("{{", r"{\u007b")  # which both Argo and KFP would take for a variable
    return ["--settings", text, "--stages", json.dumps(wiring)]


def _without_cache(arguments: list[Any]) -> list[Any]:
    """The arguments of TFX's launcher, for a stage that runs in every run."""
    at = arguments.index("--tfx_ir") + 1
    described = json.loads(arguments[at])
    for node in described["nodes"]:
        node["pipelineNode"]["executionOptions"].pop("cachingOptions", None)
    return [*arguments[:at], json.dumps(described), *arguments[at + 1 :]]


def _variable(name: str, value: str) -> V1EnvVar:
    """An environment variable of a container; the cluster fills in the value of one that refers to a secret."""
    if of_secret := secrets.KUBERNETES.fullmatch(value):
        key = V1SecretKeySelector(name=of_secret[1], key=of_secret[2])
        return V1EnvVar(name=name, value_from=V1EnvVarSource(secret_key_ref=key))
    return V1EnvVar(name=name, value=value)


def _open_workflow_parameters(workflow: dict[str, Any]) -> list[str]:
    """Removes TFX's placeholder defaults from an Argo workflow, so that Argo starts no run without these parameters."""
    names = []
    for parameter in workflow["spec"]["arguments"]["parameters"]:
        if parameter.get("value") in (None, "", _NONE):
            parameter.pop("value", None)
            names.append(parameter["name"])
    annotations = workflow["metadata"]["annotations"]
    described = json.loads(annotations["pipelines.kubeflow.org/pipeline_spec"])  # what the user interface asks for
    for parameter in described["inputs"]:
        if parameter["name"] in names:
            parameter.pop("default", None)
    annotations["pipelines.kubeflow.org/pipeline_spec"] = json.dumps(described, sort_keys=True)
    return names


def _compile_for_vertex(
    settings: Settings, pipeline: Pipeline, resources: dict[str, ResourceSettings], output: Path
) -> list[str]:
    kubeflow = settings.kubeflow
    for component in pipeline.components:
        if component.id == BLESSING.node:
            component.executor_spec = BeamExecutorSpec(vertex_gate.Executor)
        if isinstance(component.executor_spec, BeamExecutorSpec):  # whose entry point takes its name for a Beam option
            component.executor_spec.beam_pipeline_args.insert(0, SEND_NOTHING.format(kubeflow.image))
    config = KubeflowV2DagRunnerConfig(default_image=kubeflow.image, use_pipeline_spec_2_1=True)
    job = KubeflowV2DagRunner(config).run(pipeline, write_out=False)
    spec = job["pipelineSpec"]
    executors = spec["deploymentSpec"]["executors"]
    running = ["--root", "{{$.pipeline_root}}", "--run", "{{$.pipeline_job_name}}"]
    for name, task in spec["root"]["dag"]["tasks"].items():
        container = executors[spec["components"][task["componentRef"]["name"]]["executorLabel"]].get("container")
        if container is None:
            continue  # a resolver: the service does its work
        # TFX takes resources for some components only, no retries, and drops the defaults of parameters.
        if name in NEVER_CACHED:
            task.pop("cachingOptions", None)
        watched = ["stage", *running, "--name", settings.name, "--stage", name, container["command"][-1]]
        container["command"], container["args"] = _POD, [*watched, *container["args"]]
        _configure(name, task, container, kubeflow, resources[name])
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    # TFX's own set_exit_handler passes the stages no parameters of the run, and tells an exit handler of no folder.
    inputs = copy.deepcopy(spec["root"]["inputDefinitions"])
    spec["components"][_STAGES] = {"dag": spec["root"]["dag"], "inputDefinitions": inputs}
    handler = {"image": kubeflow.image, "command": _POD}
    handler["args"] = ["end", *running, *_known(settings, pipeline), "--executor_input", "{{$}}"]
    executors[EXIT_HANDLER] = {"container": handler}
    status = {"parameters": {STATUS: {"parameterType": "STRING"}}}
    spec["components"][EXIT_HANDLER] = {"executorLabel": EXIT_HANDLER, "inputDefinitions": status}
    waits = {
        "componentRef": {"name": EXIT_HANDLER},
        "taskInfo": {"name": EXIT_HANDLER},
        "dependentTasks": [_STAGES],
        "inputs": {"parameters": {STATUS: {"taskFinalStatus": {"producerTask": _STAGES}}}},
        "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"},
    }
    _configure(EXIT_HANDLER, waits, handler, kubeflow, resources[EXIT_HANDLER])
    passed = {name: {"componentInputParameter": name} for name in parameters}
    all_stages = {"componentRef": {"name": _STAGES}, "taskInfo": {"name": _STAGES}, "inputs": {"parameters": passed}}
    spec["root"]["dag"] = {"tasks": {_STAGES: all_stages, EXIT_HANDLER: waits}}
    values = [value for component in pipeline.components for value in component.exec_properties.values()]
    defaults = {value.name: value.default for value in values if isinstance(value, RuntimeParameter)}
    for name, parameter in parameters.items():
        if defaults[name] is not None:
            parameter["defaultValue"] = defaults[name]
    as_json = output.suffix == ".json"
    text = json.dumps(job, indent=2) if as_json else yaml.safe_dump(spec, sort_keys=True)
    atomic_io.write_text(output, text + "\n")
    open_parameters = [name for name in parameters if defaults[name] is None]
    return open_parameters + ([] if kubeflow.pipeline_root else [PIPELINE_ROOT])


def _configure(
    name: str, task: dict[str, Any], container: dict[str, Any], kubeflow: KubeflowSettings, asked: ResourceSettings
) -> None:
    """Puts resources, variables and retries of the settings into a task of a KFP spec."""
    container["resources"] = {"cpuLimit": asked.cpu, "memoryLimit": asked.memory_gb}  # a ResourceSpec as JSON
    if asked.gpus:
        container["resources"]["accelerator"] = {"type": kubeflow.accelerator, "count": str(asked.gpus)}
    variables = kubeflow.environment.get(name, {})
    container["env"] = [{"name": variable, "value": value} for variable, value in variables.items()]
    if kubeflow.retries:
        task["retryPolicy"] = {
            "maxRetryCount": kubeflow.retries,
            "backoffDuration": f"{_BACKOFF_SECONDS}s",
            "backoffFactor": _BACKOFF_FACTOR,
            "backoffMaxDuration": f"{_MAX_BACKOFF_SECONDS}s",
        }
