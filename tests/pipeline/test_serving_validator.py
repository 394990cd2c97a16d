"""Which component asks a server to serve the model; without containers TensorFlow Serving itself is not run here."""

from pathlib import Path

import pytest
from google.protobuf import json_format
from tfx.components.infra_validator import executor as infra_validator
from tfx.components.infra_validator import request_builder
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.proto import infra_validator_pb2
from tfx.types import Channel, artifact_utils
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model

from core.errors import InputError
from core.settings import loading
from core.settings.converter import from_json
from core.settings.serving import ServerLimits, ServingSettings
from pipeline.deployment import Deployment
from pipeline.pipeline import create_pipeline
from pipeline.serving_validator import serving_validator
from tests.conftest import ROOT
from tests.model_factory import COLORS, example, image_bytes, save_model, write_examples

CONFIG = ROOT / "configs" / "digits.yaml"
SCHEMA = (ROOT / "schemas" / "digits.pbtxt").read_text()


def wired(*overrides: str):
    loaded = loading.load(CONFIG, overrides)
    return serving_validator(loaded.serving, Channel(type=Model), Channel(type=Examples))


def read(component, name: str, kind: type):
    return json_format.Parse(component.exec_properties[name], kind())


@pytest.mark.parametrize(
    ("validator", "stage"), [("serving_check", "ServingCheck"), ("infra_validator", "InfraValidator")]
)
def test_what_pusher_waits_for_is_the_validator_of_the_settings(validator: str, stage: str) -> None:
    loaded = loading.load(CONFIG, [f"serving.validator={validator}"])
    components = {
        c.id: c for c in create_pipeline(loaded, Deployment("/root", "/images", "/serving"), SCHEMA).components
    }
    assert {"ServingCheck", "InfraValidator"} & set(components) == {stage}
    assert components["Pusher"].inputs["infra_blessing"].producer_component_id == stage


@pytest.mark.parametrize("limit", ["max_median_latency_ms", "max_latency_ms"])
def test_where_a_latency_decides_no_stage_runs_beside_its_measurement(limit: str) -> None:
    def stages(*overrides: str) -> dict:
        loaded = loading.load(CONFIG, overrides)
        return {c.id: c for c in create_pipeline(loaded, Deployment("/root", "/images", "/serving"), SCHEMA).components}

    def before(stage) -> set[str]:
        return {stage.id}.union(*map(before, stage.upstream_nodes))

    assert "Evaluator" not in before(stages()["ServingCheck"])
    wired = stages(f"serving.{limit}=100")
    waits, wait_for_it = before(wired["ServingCheck"]), {i for i, c in wired.items() if "ServingCheck" in before(c)}
    assert waits | wait_for_it == set(wired)


def test_serving_check_asks_through_a_server_with_the_bounds_of_the_settings() -> None:
    component = wired("serving.server={max_message_mb: 100, max_batch: 8}")
    settings = from_json(component.exec_properties["settings"], ServingSettings)
    assert settings.server == ServerLimits(max_message_mb=100, max_batch=8)


def test_editing_what_only_infra_validator_reads_keeps_serving_check_cached() -> None:
    assert wired().exec_properties == wired("serving.infra_validator.tries=5").exec_properties
    assert wired().exec_properties != wired("serving.max_load_seconds=5").exec_properties


def test_infra_validator_starts_tensorflow_serving_in_docker() -> None:
    component = wired("serving={validator: infra_validator, max_load_seconds: 40}")
    serving = read(component, "serving_spec", infra_validator_pb2.ServingSpec)
    assert serving.WhichOneof("serving_platform") == "local_docker"
    assert serving.tensorflow_serving.image_name == "tensorflow/serving"
    assert list(serving.tensorflow_serving.tags) == ["2.15.1"]
    validation = read(component, "validation_spec", infra_validator_pb2.ValidationSpec)
    assert (validation.max_loading_time_seconds, validation.num_tries) == (40, 3)


def test_infra_validator_starts_a_pod_on_kubernetes() -> None:
    component = wired(
        "serving={validator: infra_validator, timeout_seconds: 100}",
        "serving.infra_validator={platform: kubernetes, service_account: pipelines, image: registry/serving, tag: '2'}",
    )
    serving = read(component, "serving_spec", infra_validator_pb2.ServingSpec)
    assert serving.WhichOneof("serving_platform") == "kubernetes"
    assert (serving.kubernetes.service_account_name, serving.kubernetes.active_deadline_seconds) == ("pipelines", 100)
    assert serving.tensorflow_serving.image_name == "registry/serving"


@pytest.fixture
def artifacts(tmp_path: Path) -> dict[str, list]:
    """A model, raw examples, and the blessing to be."""
    model, raw, blessing = Model(), Examples(), InfraBlessing()
    model.uri, raw.uri, blessing.uri = (str(tmp_path / name) for name in ("model", "examples", "blessing"))
    raw.split_names = artifact_utils.encode_split_names(["train", "test"])
    raw.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    (tmp_path / "model").mkdir()
    save_model(tmp_path / "model" / "Format-Serving")
    examples = [example(image_bytes(i % 3, seed=i), COLORS[i % 3]) for i in range(8)]
    write_examples(tmp_path / "examples", "test", examples)
    return {"model": [model], "examples": [raw], "blessing": [blessing]}


def test_the_requests_are_test_images_for_the_signature_that_serves(artifacts: dict[str, list]) -> None:
    specification = read(wired("serving.validator=infra_validator"), "request_spec", infra_validator_pb2.RequestSpec)
    requests = request_builder.build_requests(
        model_name="classifier",
        model=artifacts["model"][0],
        examples=artifacts["examples"][0],
        request_spec=specification,
    )
    assert [request.model_spec.signature_name for request in requests] == ["serving_default"] * 5
    assert all(b"image/encoded" in request.inputs["examples"].string_val[0] for request in requests)


def test_where_no_container_can_be_started_nothing_is_blessed(
    artifacts: dict[str, list], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    component = wired("serving.validator=infra_validator", "serving.infra_validator={tries: 1}")
    blessing = artifacts.pop("blessing")
    context = BaseExecutor.Context(tmp_dir=str(tmp_path / "tmp"), unique_id="1")
    infra_validator.Executor(context).Do(artifacts, {"blessing": blessing}, component.exec_properties)
    assert blessing[0].get_int_custom_property("blessed") == 0


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "serving={validator: infra_validator, max_latency_ms: 5}",
            "latency and memory are measured by validator: serving_check only",
        ),
        ("serving.infra_validator={tries: 0}", "serving.infra_validator.tries is 0; it must be at least 1"),
        ("serving.validator=docker", "serving.validator: expected one of serving_check, infra_validator"),
    ],
)
def test_what_cannot_work_is_refused(override: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        loading.load(CONFIG, [override])
    assert said in str(error.value)
