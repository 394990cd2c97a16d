"""What is in a compiled spec; that it runs is shown in tests/ports/test_kubeflow.py."""

import getpass
import json
import re
import socket
import sys
from pathlib import Path

import pytest
import yaml
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform

from core import settings
from core.errors import InputError
from core.settings import Settings
from pipeline.runners.kubeflow import compile_pipeline
from tests.conftest import ROOT

BEAM_STAGES = {
    "ImageExampleGen",
    "StatisticsGen",
    "Transform",
    "FeatureExtractor",
    "Predictor",
    "Evaluator",
    "ModelGate",
}
STAGES = {
    "BackboneImporter",
    "ImageExampleGen",
    "ImportSchemaGen",
    "StatisticsGen",
    "ExampleValidator",
    "ValidationGate",
    "Transform",
    "FeatureExtractor",
    "Trainer",
    "Evaluator",
    "ModelGate",
    "ServingCheck",
    "Pusher",
    "Predictor",
    "WorstMistakes",
    "SuspectLabels",
}
IN_A_BUCKET = (
    "data.images=gs://bucket/digits",
    "kubeflow.pipeline_root=gs://bucket/pipelines",
    "kubeflow.image=registry/classifier:1",
    "kubeflow.resources={Trainer: {gpus: 2, memory_gb: 16}}",
    "kubeflow.retries=3",
    """kubeflow.environment={Trainer: {TF_CONFIG: '{"cluster": {}}'}}""",
)


def compiled(tmp_path: Path, target: str, *overrides: str) -> tuple[dict, list[str]]:
    loaded = settings.load(ROOT / "configs" / "digits.yaml", overrides)
    open_parameters = compile_pipeline(loaded, target, tmp_path / "made" / "spec.yaml")
    return yaml.load((tmp_path / "made" / "spec.yaml").read_text(), yaml.CSafeLoader), open_parameters


def containers(workflow: dict) -> dict[str, dict]:
    """Stage -> template, of an Argo workflow."""
    steps = [step for step in workflow["spec"]["templates"] if "--node_id" in step.get("container", {}).get("args", [])]
    return {step["container"]["args"][step["container"]["args"].index("--node_id") + 1]: step for step in steps}


def vertex_containers(spec: dict) -> dict[str, dict]:
    executors = spec["deploymentSpec"]["executors"]
    found = {name.removesuffix("_executor"): e["container"] for name, e in executors.items() if "container" in e}
    assert found.pop("ExitHandler")
    return found


def test_an_argo_workflow_has_every_stage_with_the_image_resources_and_retries_of_the_settings(tmp_path):
    workflow, still_open = compiled(tmp_path, "cluster", *IN_A_BUCKET)
    steps = containers(workflow)
    assert set(steps) == STAGES | {"Baseline", "DataBaseline", "EarlierFeatures"}
    assert {step["container"]["image"] for step in steps.values()} == {"registry/classifier:1"}
    assert {step["retryStrategy"]["limit"] for step in steps.values()} == {3}
    assert steps["Trainer"]["container"]["resources"] == {
        "requests": {"cpu": "4", "memory": "16Gi"},
        "limits": {"nvidia.com/gpu": "2"},
    }
    assert {"name": "TF_CONFIG", "value": '{"cluster": {}}'} in steps["Trainer"]["container"]["env"]
    assert {name: step["metadata"]["labels"]["pipeline/stage"] for name, step in steps.items()} == {n: n for n in steps}
    assert steps["ValidationGate"]["container"]["resources"] == {"requests": {"cpu": "1", "memory": "4Gi"}}
    described = {name: step["container"]["args"] for name, step in steps.items()}
    described = {name: json.loads(args[args.index("--tfx_ir") + 1]) for name, args in described.items()}
    cached = {name: "cachingOptions" in str(pipeline) for name, pipeline in described.items()}
    assert [name for name, is_cached in cached.items() if not is_cached] == ["Pusher"]
    names = [template["name"] for template in workflow["spec"]["templates"]]
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) for name in names)
    defaults = {p["name"]: p["value"] for p in workflow["spec"]["arguments"]["parameters"]}
    assert defaults["pipeline-root"] == "gs://bucket/pipelines/digits" and defaults["data-root"] == "gs://bucket/digits"
    assert "gs://bucket/pipelines/digits/serving" in defaults["push-destination"] and still_open == []


def test_a_vertex_spec_has_every_stage_with_the_image_resources_and_retries_of_the_settings(tmp_path):
    spec, still_open = compiled(tmp_path, "vertex", *IN_A_BUCKET, "kubeflow.accelerator=NVIDIA_L4")
    steps = vertex_containers(spec)
    assert set(steps) == STAGES
    assert {step["image"] for step in steps.values()} == {"registry/classifier:1"}
    accelerator = {"type": "NVIDIA_L4", "count": "2"}
    assert steps["Trainer"]["resources"] == {"cpuLimit": 4.0, "memoryLimit": 16.0, "accelerator": accelerator}
    assert steps["Trainer"]["env"] == [{"name": "TF_CONFIG", "value": '{"cluster": {}}'}]
    assert steps["ImageExampleGen"]["resources"] == {"cpuLimit": 1.0, "memoryLimit": 4.0}
    assert "preCacheCheck" in steps["ImageExampleGen"]["lifecycle"]
    beam = {name for name, step in steps.items() if "--sdk_container_image=registry/classifier:1" in step["args"]}
    assert beam == BEAM_STAGES  # TFX would pack its own source for the workers, in each of them
    tasks = spec["components"]["stages"]["dag"]["tasks"]
    assert {task["retryPolicy"]["maxRetryCount"] for name, task in tasks.items() if name in STAGES} == {3}
    assert [name for name in STAGES if not tasks[name].get("cachingOptions", {}).get("enableCache")] == ["Pusher"]
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert parameters["data-root"]["defaultValue"] == "gs://bucket/digits"
    assert json.loads(parameters["train-args"]["defaultValue"])["num_steps"] == 600 and still_open == []
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,127}", spec["pipelineInfo"]["name"])


def exit_handlers(tmp_path: Path, *overrides: str) -> tuple[dict, dict]:
    """The containers of the exit handlers, on a cluster and on Vertex AI."""
    workflow, _ = compiled(tmp_path, "cluster", *IN_A_BUCKET, *overrides)
    (handler,) = [one for one in workflow["spec"]["templates"] if one["name"] == workflow["spec"]["onExit"]]
    spec, _ = compiled(tmp_path, "vertex", *IN_A_BUCKET, *overrides)
    return handler["container"], spec["deploymentSpec"]["executors"]["ExitHandler"]["container"]


def told(container: dict) -> Settings:
    """The settings that an exit handler is given."""
    return settings.from_dict(json.loads(container["args"][container["args"].index("--settings") + 1]), Settings)


def test_an_exit_handler_has_the_image_the_settings_and_variables_of_its_own(tmp_path):
    given = "kubeflow.environment={ExitHandler: {CHANNEL: ops}}", "kubeflow.resources={ExitHandler: {memory_gb: 2}}"
    argo, vertex = exit_handlers(tmp_path, *given, "notify='echo {{workflow.name}}'")
    for container in (argo, vertex):
        assert container["image"] == "registry/classifier:1" and container["command"][-1] == "pipeline.runners.pods"
        assert {"name": "CHANNEL", "value": "ops"} in container["env"]
        assert "{{workflow.name}}" not in container["args"][container["args"].index("--settings") + 1]
        assert told(container).notify == "echo {{workflow.name}}"
    assert argo["resources"]["requests"] == {"cpu": "1", "memory": "2Gi"}
    assert argo["envFrom"] == [{"configMapRef": {"name": "metadata-grpc-configmap", "optional": True}}]
    assert vertex["resources"] == {"cpuLimit": 1.0, "memoryLimit": 2.0}


def test_googles_own_client_takes_the_spec_and_its_parameters(tmp_path):
    compile_pipeline(settings.load(ROOT / "configs" / "digits.yaml"), "vertex", tmp_path / "spec.yaml")
    aiplatform.init(project="project", location="us-central1", credentials=AnonymousCredentials())
    job = aiplatform.PipelineJob(
        display_name="digits",
        template_path=str(tmp_path / "spec.yaml"),
        pipeline_root="gs://bucket/root",
        parameter_values={"data-root": "gs://bucket/digits", "push-destination": "{}"},
    )
    assert job.to_dict()["runtimeConfig"]["parameterValues"]["data-root"] == "gs://bucket/digits"


@pytest.mark.parametrize("target", ["cluster", "vertex"])
def test_nothing_of_this_machine_is_in_a_spec(tmp_path, target):
    folder = tmp_path / "photos"
    spec, still_open = compiled(tmp_path, target, f"data.images={folder}", f"push.directory={tmp_path}/serving")
    text = json.dumps(spec)
    for own in (ROOT, tmp_path, Path.home() / "", Path(sys.prefix), socket.gethostname()):
        assert f"{own}/" not in text and f'{own}"' not in text
    assert f"/{getpass.getuser()}/" not in text
    assert set(still_open) == {"data-root", "push-destination", "pipeline-root"}


def test_argo_starts_no_workflow_without_the_parameters_that_are_left_open(tmp_path):
    workflow, still_open = compiled(tmp_path, "cluster")
    without = {p["name"] for p in workflow["spec"]["arguments"]["parameters"] if "value" not in p}
    asked = json.loads(workflow["metadata"]["annotations"]["pipelines.kubeflow.org/pipeline_spec"])["inputs"]
    assert without == set(still_open) == {p["name"] for p in asked if "default" not in p}


def test_a_volume_claim_is_mounted_in_every_container_and_folders_below_it_are_seen(tmp_path):
    workflow, still_open = compiled(
        tmp_path,
        "cluster",
        "kubeflow.volume={claim: photos, path: /data}",
        "kubeflow.pipeline_root=/data/pipelines",
        "data.images=/data/digits",
    )
    handler = workflow["spec"]["templates"][-1]
    assert handler["name"] == workflow["spec"]["onExit"]
    for step in (*containers(workflow).values(), handler):
        assert step["container"]["volumeMounts"] == [{"mountPath": "/data", "name": "pipeline"}]
        assert step["volumes"] == [{"name": "pipeline", "persistentVolumeClaim": {"claimName": "photos"}}]
    assert still_open == []


def test_the_span_of_a_data_folder_is_fixed_and_the_folder_before_it_a_parameter(tmp_path):
    workflow, _ = compiled(tmp_path, "cluster", "data.images=gs://bucket/photos/{SPAN}")
    defaults = {p["name"]: p.get("value") for p in workflow["spec"]["arguments"]["parameters"]}
    assert defaults["data-root"] == "gs://bucket/photos"
    assert "{SPAN}/*/*" in json.dumps(containers(workflow)["ImageExampleGen"])


def test_on_a_cluster_infra_validator_can_take_the_place_of_serving_check(tmp_path):
    infra = "serving={validator: infra_validator, infra_validator: {platform: kubernetes, service_account: runner}}"
    workflow, _ = compiled(tmp_path, "cluster", *IN_A_BUCKET, infra)
    steps = containers(workflow)
    assert "ServingCheck" not in steps and "InfraValidator" in steps
    assert "service_account_name" in json.dumps(steps["InfraValidator"])
    (dag,) = [template["dag"] for template in workflow["spec"]["templates"] if "dag" in template]
    (pusher,) = [task for task in dag["tasks"] if task["name"] == "pusher"]
    assert "infravalidator" in pusher["dependencies"]


@pytest.mark.parametrize("target", ["cluster", "vertex"])
def test_the_settings_that_the_page_shows_compile(tmp_path, target):
    blocks = re.findall(r"```yaml\n# configs/birds.yaml\n(.*?)```", (ROOT / "docs/porting.md").read_text(), re.DOTALL)
    given, distributed = blocks
    training, environment = distributed.split("kubeflow:\n")
    path = tmp_path / "birds.yaml"
    path.write_text(f"name: birds\n{training}{given}{environment}")
    loaded = settings.load(path, [f"data.schema={ROOT / 'schemas' / 'digits.pbtxt'}"])
    open_parameters = compile_pipeline(loaded, target, tmp_path / "spec.yaml")
    spec = yaml.load((tmp_path / "spec.yaml").read_text(), yaml.CSafeLoader)
    steps = containers(spec) if target == "cluster" else vertex_containers(spec)
    env = (steps["Trainer"].get("container") or steps["Trainer"])["env"]
    (value,) = [variable["value"] for variable in env if variable["name"] == "TF_CONFIG"]
    assert json.loads(value)["task"] == {"type": "chief", "index": 0} and open_parameters == []


def test_a_pipeline_job_is_written_where_the_name_says_so(tmp_path):
    loaded = settings.load(ROOT / "configs" / "digits.yaml", IN_A_BUCKET)
    compile_pipeline(loaded, "vertex", tmp_path / "job.json")
    job = json.loads((tmp_path / "job.json").read_text())
    assert job["runtimeConfig"]["gcsOutputDirectory"] == "gs://bucket/pipelines/digits"
    assert set(vertex_containers(job["pipelineSpec"])) == STAGES


@pytest.mark.parametrize(
    ("target", "override", "said"),
    [
        ("cluster", "kubeflow.pipeline_root=build", "kubeflow.pipeline_root is build, which no container sees"),
        ("vertex", "evaluation.regressions=/past", "evaluation.regressions is /past, which no container sees"),
        ("vertex", "backbone.weights=/home/me/w.h5", "backbone.weights is /home/me/w.h5, which no container sees"),
        ("cluster", "kubeflow.resources={Trainr: {gpus: 1}}", "no stage Trainr; did you mean Trainer?"),
        ("cluster", "kubeflow.environment={Pushr: {A: b}}", "no stage Pushr; did you mean Pusher?"),
        ("vertex", "data={images: 'gs://b/{SPAN}', window: 2}", "Vertex AI runs only TFX's"),
        ("vertex", "kubeflow.volume={claim: photos}", "Vertex AI mounts no volume claims"),
        ("vertex", "kubeflow.environment={Trainer: {TOKEN: '${secret:a/b}'}}", "Vertex AI hands its containers no"),
        ("cluster", "runtime.beam=['--s3_session_token=${env:S3}']", 'as ImageExampleGen: {S3: "${secret:NAME/KEY}"}'),
        ("vertex", "serving.validator=infra_validator", "which Vertex AI cannot run: take serving_check"),
        ("cluster", "serving.validator=infra_validator", "platform is docker, which containers lack: take kubernetes"),
        ("vertex", "data.schema=schemas/none.pbtxt", f"there is no schema {Path.cwd()}/schemas/none.pbtxt"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, target, override, said):
    with pytest.raises(InputError, match=re.escape(said)):
        compiled(tmp_path, target, override)


def test_the_name_of_the_file_must_fit_the_target(tmp_path):
    loaded = settings.load(ROOT / "configs" / "digits.yaml")
    with pytest.raises(InputError, match=r"must end in \.yaml or \.yml"):
        compile_pipeline(loaded, "cluster", tmp_path / "spec.json")


@pytest.mark.parametrize("override", ["training.warm_start=latest_blessed", "data.window=2"])
def test_what_vertex_cannot_do_is_told(override, tmp_path):
    with pytest.raises(InputError, match="Vertex AI runs only TFX's"):
        compiled(tmp_path, "vertex", *IN_A_BUCKET, "data.images=gs://bucket/day-{SPAN}", override)


def test_a_warm_start_is_two_more_stages_on_a_cluster(tmp_path):
    workflow, _ = compiled(tmp_path, "cluster", *IN_A_BUCKET, "training.warm_start=latest_blessed")
    assert {"LastBlessed", "WarmStart"} <= set(containers(workflow))


def test_a_secret_is_the_clusters_and_beam_takes_it_from_the_containers_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3", "hunter2")  # of this machine, which must not get into the spec
    stages = ("ImageExampleGen", "StatisticsGen", "Transform", "FeatureExtractor", "Predictor", "Evaluator")
    given = ", ".join(f"{stage}: {{S3: '${{secret:storage/s3.key}}'}}" for stage in stages)
    workflow, _ = compiled(
        tmp_path, "cluster", *IN_A_BUCKET, "runtime.beam=['--s3_session_token=${env:S3}']",
        f"kubeflow.environment={{{given}}}",
    )  # fmt: skip
    env = containers(workflow)["StatisticsGen"]["container"]["env"]
    reference = {"name": "storage", "key": "s3.key"}
    assert {"name": "S3", "valueFrom": {"secretKeyRef": reference}} in env
    assert "--secret=S3" in containers(workflow)["StatisticsGen"]["container"]["args"]
    text = (tmp_path / "made" / "spec.yaml").read_text()
    assert "hunter2" not in text and "ENVIRONMENT_VARIABLE" in text
