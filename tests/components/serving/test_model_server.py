"""The server, asked with TensorFlow Serving's own stubs: its answers, its status codes and its bounds."""

import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from components.serving.model_client import RemoteModel
from components.serving.model_server import ModelServer
from components.serving.model_versions import ModelVersions
from core import signatures
from core.errors import InputError
from core.settings.serving import ServerLimits
from tests.components.conftest import encoded
from tests.model_factory import COLORS, example, image_bytes, save_model

IMAGES = [image_bytes(color, seed=color) for color in range(3)]


class Stubs:
    """A stock client."""

    def __init__(self, address: str) -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]
        self.channel = grpc.insecure_channel(address, options)
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def predict(self, inputs: dict[str, Any], *outputs: str, timeout: float = 20, **spec: Any) -> Any:
        request = predict_pb2.PredictRequest(output_filter=outputs)
        fill(request.model_spec, **spec)
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(
                value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
            )
        return self.predictions.Predict(request, timeout=timeout)


def fill(spec: Any, name: str = "colors", signature: str = "", version: int | None = None, label: str = "") -> None:
    spec.name, spec.signature_name = name, signature
    if version is not None:
        spec.version.value = version
    if label:
        spec.version_label = label


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    model = save_model(tmp_path_factory.mktemp("served") / "7")
    versions = ModelVersions(lambda: {7: str(model)})
    versions.poll()
    server = ModelServer("colors", versions, ServerLimits(max_message_mb=2, max_megapixels=20, max_batch=8))
    yield server
    server.stop()
    versions.close()


@pytest.fixture(scope="module")
def stubs(served: ModelServer) -> Iterator[Stubs]:
    made = Stubs(served.address)
    yield made
    made.channel.close()


def test_predict_answers_with_the_spec_and_every_output(stubs: Stubs) -> None:
    response = stubs.predict({"images": IMAGES}, signature=signatures.IMAGES)

    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("colors", 7, signatures.IMAGES)
    answer = {name: tf.make_ndarray(value) for name, value in response.outputs.items()}
    assert set(answer) == {"probabilities", "classes", "label", "probability", "novelty", "reason", "error"}
    assert answer["label"].tolist() == [name.encode() for name in COLORS]
    np.testing.assert_allclose(answer["probabilities"].sum(axis=1), 1, atol=1e-6)


def test_the_default_signature_takes_examples_and_the_filter_chooses_outputs(stubs: Stubs) -> None:
    examples = [example(image, "red").SerializeToString() for image in IMAGES]

    response = stubs.predict({"examples": examples}, "label", version=7)

    assert list(response.outputs) == ["label"]
    assert tf.make_ndarray(response.outputs["label"]).tolist() == [b"red", b"green", b"blue"]
    assert response.model_spec.signature_name == signatures.EXAMPLES


def test_a_bad_image_costs_the_others_nothing(stubs: Stubs) -> None:
    response = stubs.predict({"images": [IMAGES[0], b"\xff\xfe no image", IMAGES[2]]}, signature=signatures.IMAGES)

    assert tf.make_ndarray(response.outputs["label"]).tolist() == [b"red", b"", b"blue"]
    assert tf.make_ndarray(response.outputs["error"]).tolist() == [
        b"", b"not an image, or none of JPEG, PNG, GIF, BMP", b"",
    ]  # fmt: skip


def black(megapixels: int, kind: str) -> bytes:
    """An image file of a few kilobytes for each million pixels."""
    return encoded(Image.new("L", (1000, 1000 * megapixels)), kind)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
@pytest.mark.parametrize("signature", [signatures.IMAGES, signatures.EXAMPLES, signatures.CLASSIFY])
def test_a_request_has_so_many_pixels_at_most_whatever_it_holds_them_in(
    signature: str, kind: str, stubs: Stubs
) -> None:
    def ask(files: list[bytes]) -> None:
        if signature == signatures.CLASSIFY:
            request = classification_pb2.ClassificationRequest()
            fill(request.model_spec, signature=signature)
            request.input.example_list.examples.extend(example(file, "") for file in files)
            stubs.predictions.Classify(request, timeout=60)
            return
        images = signature == signatures.IMAGES
        values = files if images else [example(file, "").SerializeToString() for file in files]
        stubs.predict({"images" if images else "examples": values}, signature=signature, timeout=60)

    ask([black(10, kind)] * 2)
    with pytest.raises(grpc.RpcError) as refused:
        ask([black(10, kind), black(11, kind)])
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == (
        "the request's images have 21 million pixels together; they may have at most 20 "
        "(serving.server.max_megapixels): send fewer at a time"
    )


def test_what_no_model_decodes_does_not_count(stubs: Stubs) -> None:
    png = bytearray(black(1, "PNG"))
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    response = stubs.predict({"images": [bytes(png), black(20, "PNG")]}, signature=signatures.IMAGES, timeout=60)
    assert [bool(error) for error in tf.make_ndarray(response.outputs["error"])] == [True, False]


def test_classify_scores_every_class(stubs: Stubs) -> None:
    request = classification_pb2.ClassificationRequest()
    fill(request.model_spec, signature=signatures.CLASSIFY)
    request.input.example_list.examples.extend(example(image, "") for image in [*IMAGES, b""])

    result = stubs.predictions.Classify(request, timeout=20).result

    best = [max(found.classes, key=lambda c: c.score).label for found in result.classifications[:3]]
    assert best == list(COLORS)
    assert [c.score for c in result.classifications[3].classes] == [0, 0, 0]


def test_metadata_are_the_signatures(stubs: Stubs) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    fill(request.model_spec)

    response = stubs.predictions.GetModelMetadata(request, timeout=20)

    found = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    assert set(found.signature_def) == {
        signatures.EXAMPLES, signatures.IMAGES, signatures.CLASSIFY, signatures.LABELS,
        signatures.MAPS, signatures.PIXELS,
    }  # fmt: skip
    assert response.model_spec.version.value == 7


def test_status_is_available(stubs: Stubs) -> None:
    for version in (None, 7):
        request = get_model_status_pb2.GetModelStatusRequest()
        fill(request.model_spec, version=version)
        (status,) = stubs.models.GetModelStatus(request, timeout=20).model_version_status
        assert (status.version, status.state) == (7, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
        assert status.status.error_code == 0


def tensor(shape: list[int], *values: bytes) -> tensor_pb2.TensorProto:
    proto = tf.make_tensor_proto(list(values), tf.string)
    del proto.tensor_shape.dim[:]
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("inputs", "outputs", "spec", "code", "words"),
    [
        ({}, (), {"name": "other"}, "NOT_FOUND", "Servable not found for request: Latest(other)"),
        ({}, (), {"version": 8}, "NOT_FOUND", "Servable not found for request: Specific(colors, 8)"),
        ({}, (), {"label": "stable"}, "INVALID_ARGUMENT", "Unrecognized servable version label: stable"),
        ({}, (), {"signature": "nope"}, "FAILED_PRECONDITION", 'Serving signature key "nope" not found.'),
        (
            {}, (), {}, "INVALID_ARGUMENT",
            "input size does not match signature: 0!=1 len({}) != len({examples}). Sent extra: {}. "
            "Missing but required: {examples}.",
        ),
        (
            {"images": [b""]}, (), {}, "INVALID_ARGUMENT",
            "input tensor alias not found in signature: images. Inputs expected to be in the set {examples}.",
        ),
        ({"examples": [1.5]}, (), {}, "INVALID_ARGUMENT", "Expects examples to be string but float32 is provided"),
        (
            {"examples": [b""]}, ("scores",), {}, "INVALID_ARGUMENT",
            "output tensor alias not found in signature: scores Outputs expected to be in the set "
            "{classes,error,label,novelty,probabilities,probability,reason}.",
        ),
        (
            {"examples": [b""]}, ("label", "label"), {}, "INVALID_ARGUMENT", "duplicate output tensor alias: label",
        ),
        ({"examples": [b"\xff\xff"]}, (), {}, "INVALID_ARGUMENT", ""),
        ({"examples": b""}, (), {}, "INVALID_ARGUMENT", "Cannot feed value of shape ()"),
        ({"examples": [[b""]]}, (), {}, "INVALID_ARGUMENT", "Cannot feed value of shape (1, 1)"),
        ({"examples": [b""] * 9}, (), {}, "INVALID_ARGUMENT", "the request has 9 images; it may have at most 8"),
        ({"examples": tensor([2**40], b"x")}, (), {}, "INVALID_ARGUMENT", "the request has 1099511627776 images"),
        ({"examples": tensor([-1], b"x")}, (), {}, "INVALID_ARGUMENT", "tensor parsing error: examples"),
        ({"examples": tensor([1], b"x", b"y")}, (), {}, "INVALID_ARGUMENT", "tensor parsing error: examples"),
        (
            {"images": [bytes(2**21 + 2**16)]},
            (),
            {"signature": signatures.IMAGES},
            "RESOURCE_EXHAUSTED",
            "larger than max",
        ),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly_is_refused_as_tensorflow_serving_refuses_it(
    inputs: dict, outputs: tuple, spec: dict, code: str, words: str, stubs: Stubs
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stubs.predict(inputs, *outputs, **spec)

    assert refused.value.code().name == code, refused.value.details()
    assert words in refused.value.details()
    assert stubs.predict({"images": IMAGES}, "label", signature=signatures.IMAGES)  # and the server goes on


def test_the_other_methods_refuse_too(stubs: Stubs) -> None:
    def refusal(method: Any, request: Any) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as refused:
            method(request, timeout=20)
        return refused.value.code().name, refused.value.details()

    classify, metadata = classification_pb2.ClassificationRequest(), get_model_metadata_pb2.GetModelMetadataRequest()
    status = get_model_status_pb2.GetModelStatusRequest()
    for method, request in (
        (stubs.predictions.Predict, predict_pb2.PredictRequest()),
        (stubs.predictions.Classify, classify),
        (stubs.predictions.GetModelMetadata, metadata),
        (stubs.models.GetModelStatus, status),
    ):
        assert refusal(method, request) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    fill(classify.model_spec)
    assert refusal(stubs.predictions.Classify, classify) == (
        "INVALID_ARGUMENT",
        "Expected classification signature method_name to be tensorflow/serving/classify. "
        "Was: tensorflow/serving/predict",
    )
    classify.model_spec.signature_name = signatures.CLASSIFY
    assert refusal(stubs.predictions.Classify, classify) == ("INVALID_ARGUMENT", "Input is empty")
    classify.model_spec.signature_name = "nope"
    assert refusal(stubs.predictions.Classify, classify)[1] == "No signature was found with the name: nope"
    fill(metadata.model_spec)
    assert refusal(stubs.predictions.GetModelMetadata, metadata)[1].endswith("must specify at least one metadata_field")
    metadata.metadata_field.append("weights")
    assert refusal(stubs.predictions.GetModelMetadata, metadata)[1] == "Metadata field weights is not supported"
    fill(status.model_spec, version=3)
    assert refusal(stubs.models.GetModelStatus, status) == ("NOT_FOUND", "Could not find version 3 of model colors")
    fill(status.model_spec, name="other")
    status.model_spec.ClearField("version")
    assert refusal(stubs.models.GetModelStatus, status) == ("NOT_FOUND", "Could not find any versions of model other")
    assert refusal(stubs.predictions.MultiInference, inference_pb2.MultiInferenceRequest())[0] == "UNIMPLEMENTED"


def test_many_clients_at_once_get_their_own_answers(served: ModelServer) -> None:
    with RemoteModel(served.address, "colors") as model, futures.ThreadPoolExecutor(8) as pool:
        asked = [i % 3 for i in range(60)]
        labels = pool.map(lambda i: model.request(signatures.IMAGES, [IMAGES[i]])["label"][0].decode(), asked)

        assert list(labels) == [COLORS[i] for i in asked]


def test_an_image_of_just_the_size_of_a_request_fits_in_one(served: ModelServer) -> None:
    with RemoteModel(served.address, "colors") as model:
        (error,) = model.request(signatures.IMAGES, [bytes(2 * 2**20)])["error"]
    assert error.startswith(b"not an image")


def test_a_client_raises_tensorflows_errors(served: ModelServer) -> None:
    with RemoteModel(served.address, "colors") as model:
        assert model.states() == {7: "AVAILABLE"}
        with pytest.raises(tf.errors.InvalidArgumentError, match="9 images; it may have at most 8"):
            model.request(signatures.IMAGES, IMAGES * 3)
    with pytest.raises(tf.errors.NotFoundError):
        RemoteModel(served.address, "other")


def test_a_proxy_of_the_shell_is_not_asked_for_this_machine(
    served: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "no_grpc_proxy", "grpc_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with RemoteModel(served.address, "colors") as model:
        assert model.states() == {7: "AVAILABLE"}


def test_a_taken_port_is_said_in_words(served: ModelServer) -> None:
    with pytest.raises(InputError, match=f"port {served.port} of 127.0.0.1 cannot be used"):
        ModelServer("colors", ModelVersions(dict), ServerLimits(), served.port)


class Slow:
    """A model's `run`, which takes its time."""

    def __init__(self, run: Callable[..., Any], seconds: float) -> None:
        self._run, self._seconds = run, seconds
        self.begun = threading.Event()

    def __call__(self, *arguments: Any, timeout_seconds: float | None = None) -> Any:
        self.begun.set()
        if timeout_seconds is not None and timeout_seconds < self._seconds:
            time.sleep(timeout_seconds)
            raise tf.errors.DeadlineExceededError(None, None, "too slow")
        time.sleep(self._seconds)
        return self._run(*arguments)


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModelServer, Slow, Stubs]]:
    versions = ModelVersions(lambda: {1: str(save_model(tmp_path / "1"))})
    versions.poll()
    with versions.use() as (_, model):
        run = Slow(model.run, 1.0)
        monkeypatch.setattr(model, "run", run)
    server = ModelServer("colors", versions, ServerLimits(concurrent=1, waiting=1, request_seconds=20))
    yield server, run, Stubs(server.address)
    server.stop()
    versions.close()


def test_a_stop_lets_what_was_begun_end_and_takes_nothing_new(slow: tuple[ModelServer, Slow, Stubs]) -> None:
    server, run, stubs = slow
    with futures.ThreadPoolExecutor(1) as pool:
        begun = pool.submit(stubs.predict, {"images": IMAGES}, signature=signatures.IMAGES)
        assert run.begun.wait(10)
        server.stop()
        assert begun.result(timeout=10).outputs["label"].string_val[0] == b"red"
    with pytest.raises(grpc.RpcError) as refused:
        stubs.predict({"images": IMAGES}, signature=signatures.IMAGES)
    assert refused.value.code().name == "UNAVAILABLE"


def test_deadlines_are_kept_and_a_crowd_is_turned_away(slow: tuple[ModelServer, Slow, Stubs]) -> None:
    _, _, stubs = slow
    with pytest.raises(grpc.RpcError) as late:
        stubs.predict({"images": IMAGES}, signature=signatures.IMAGES, timeout=0.5)
    assert late.value.code().name == "DEADLINE_EXCEEDED"

    def ask(_: int) -> str:
        try:
            stubs.predict({"images": IMAGES}, signature=signatures.IMAGES)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    time.sleep(0.6)
    with futures.ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(ask, range(6)))
    assert set(outcomes) == {"OK", "RESOURCE_EXHAUSTED"}
    assert ask(0) == "OK"
