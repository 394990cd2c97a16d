"""TFX's own InfraValidator logic against our server: its request builder, its client for TensorFlow Serving."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tfx.components.infra_validator import request_builder
from tfx.components.infra_validator.model_server_clients.tensorflow_serving_client import TensorFlowServingClient
from tfx.components.infra_validator.types import ModelServingStatus
from tfx.proto import infra_validator_pb2
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model

from components.serving.model_server import ModelServer
from components.serving.model_versions import ModelVersions
from core import signatures
from core.settings.serving import ServerLimits
from tests.model_factory import example, image_bytes, save_model, write_examples

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Examples]:
    folder = tmp_path_factory.mktemp("infra")
    model, examples = Model(), Examples()
    model.uri, examples.uri = str(folder / "model"), str(folder / "examples")
    examples.split_names = artifact_utils.encode_split_names(["test"])
    examples.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    (folder / "model").mkdir()
    save_model(folder / "model" / "Format-Serving")
    write_examples(folder / "examples", "test", [example(image_bytes(i % 3, seed=i), "red") for i in range(5)])
    return model, examples


@pytest.fixture
def versions(artifacts: tuple[Model, Examples]) -> Iterator[ModelVersions]:
    made = ModelVersions(lambda: {1: f"{artifacts[0].uri}/Format-Serving"})
    yield made
    made.close()


def test_it_finds_the_model_ready_and_its_requests_answered(
    artifacts: tuple[Model, Examples], versions: ModelVersions
) -> None:
    model, examples = artifacts
    requests = request_builder.build_requests(
        "colors",
        model,
        examples,
        infra_validator_pb2.RequestSpec(
            tensorflow_serving=infra_validator_pb2.TensorFlowServingRequestSpec(
                signature_names=[signatures.EXAMPLES, signatures.CLASSIFY]
            ),
            num_examples=3,
        ),
    )
    assert sorted(type(request).__name__ for request in requests) == (
        ["ClassificationRequest"] * 3 + ["PredictRequest"] * 3
    )
    server = ModelServer("colors", versions, ServerLimits())
    client = TensorFlowServingClient(server.address, "colors")
    assert client._GetServingStatus() == ModelServingStatus.NOT_READY

    versions.poll()
    client.WaitUntilModelLoaded(deadline=time.time() + 30, polling_interval_sec=1)
    client.SendRequests(requests)

    server.stop()


def test_it_finds_a_damaged_model_unavailable(artifacts: tuple[Model, Examples], tmp_path: Path) -> None:
    damaged = save_model(tmp_path / "1")
    data = damaged / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-4])
    versions = ModelVersions(lambda: {1: str(damaged)})
    versions.poll()
    server = ModelServer("colors", versions, ServerLimits())

    assert TensorFlowServingClient(server.address, "colors")._GetServingStatus() == ModelServingStatus.UNAVAILABLE

    server.stop()
