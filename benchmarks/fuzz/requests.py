"""What a model server may be sent over gRPC: messages of every method, with images in them, whole and damaged."""

from __future__ import annotations

import functools
import random
from typing import Any

import grpc
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from benchmarks.fuzz import images
from benchmarks.fuzz.mutations import NUMBERS, mutated
from benchmarks.fuzz.target import Target, check_message, model_folder, scratch_folder
from components.serving.model_server import ModelServer
from components.serving.model_versions import ModelVersions
from core import signatures
from core.examples import IMAGE
from core.settings.serving import ServerLimits

_NAME, _VERSION = "fuzzed", 7
_LIMITS = ServerLimits(max_message_mb=2, max_batch=8, request_seconds=20)
_PREDICT, _CLASSIFY = b"PredictionService/Predict", b"PredictionService/Classify"
_METADATA, _STATUS = b"PredictionService/GetModelMetadata", b"ModelService/GetModelStatus"
_OTHERS = (
    b"PredictionService/Regress", b"PredictionService/MultiInference", b"SessionService/SessionRun",
    b"ModelService/HandleReloadConfigRequest", b"PredictionService/Nothing",
)  # fmt: skip
_METHODS = (_PREDICT, _CLASSIFY, _METADATA, _STATUS, *_OTHERS)
_TOKENS = [
    b"images",
    b"examples",
    b"fuzzed",
    b"\0",
    b"\xff" * 9,
    b"\x0a\xff\xff\xff\xff\x0f",
    b"\x80" * 12,
    b"\x1b\x5d0;x",
]
_REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class Requests(Target):
    """A server in this process, asked with bytes over a connection; an input's first line names the method.

    Every request must be answered or refused as the client's fault, and the server answer a good one afterwards.
    """

    name = "requests"

    def __init__(self) -> None:
        self._folder = scratch_folder()
        model = model_folder(self._folder.name)
        self._versions = ModelVersions(lambda: {_VERSION: model})
        self._versions.poll()
        self._server = ModelServer(_NAME, self._versions, _LIMITS)
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(self._server.address, [*options, ("grpc.enable_http_proxy", 0)])
        self._calls = {
            method: self._channel.unary_unary(f"/tensorflow.serving.{method.decode()}") for method in _METHODS
        }
        self._images = images.served()
        self._turns = 0
        self._good = self._seed_of_images(self._images[:2])
        assert self._send(_PREDICT + b"\n" + self._good) == "answered"

    def close(self) -> None:
        self._channel.close()
        self._server.stop()
        self._versions.close()
        self._folder.cleanup()

    def _seed_of_images(self, files: list[bytes], *outputs: str) -> bytes:
        request = PredictRequest(output_filter=outputs)
        request.model_spec.name, request.model_spec.signature_name = _NAME, signatures.IMAGES
        request.inputs["images"].CopyFrom(tf.make_tensor_proto(files))
        return request.SerializeToString(deterministic=True)

    @functools.cached_property
    def _seeds(self) -> list[bytes]:
        examples = [_example(data) for data in self._images[:2]]
        predict = PredictRequest()
        predict.model_spec.name = _NAME
        predict.inputs["examples"].CopyFrom(tf.make_tensor_proto([one.SerializeToString() for one in examples]))
        classify = ClassificationRequest()
        classify.model_spec.name, classify.model_spec.signature_name = _NAME, signatures.CLASSIFY
        classify.input.example_list.examples.extend(examples)
        metadata = GetModelMetadataRequest(metadata_field=["signature_def"])
        status = GetModelStatusRequest()
        for one in (metadata, status):
            one.model_spec.name = _NAME
            one.model_spec.version.value = _VERSION
        found = [(_CLASSIFY, classify), (_PREDICT, predict), (_METADATA, metadata), (_STATUS, status)]
        return [
            *(method + b"\n" + one.SerializeToString(deterministic=True) for method, one in found),
            *(_PREDICT + b"\n" + self._seed_of_images([data]) for data in self._images),
        ]

    def seeds(self) -> list[bytes]:
        return self._seeds

    def make(self, chance: random.Random) -> bytes:
        kind = chance.random()
        if kind < 0.35:
            return _PREDICT + b"\n" + self._damaged_images(chance)
        if kind < 0.7:
            return _PREDICT + b"\n" + self._odd_predict(chance).SerializeToString(deterministic=True)
        if kind < 0.8:
            return _CLASSIFY + b"\n" + self._odd_classify(chance).SerializeToString(deterministic=True)
        method, _, message = chance.choice(self._seeds).partition(b"\n")
        if chance.random() < 0.1:
            method = chance.choice(_METHODS)
        return method + b"\n" + mutated([message], chance, _TOKENS)

    def _damaged_images(self, chance: random.Random) -> bytes:
        """A good request of damaged images; a batch as large as is allowed, of one image, costs the most."""
        if chance.random() < 0.1:
            return self._seed_of_images([images.changed(chance)] * _LIMITS.max_batch)
        files = [mutated(self._images, chance) for _ in range(chance.choice((1, 1, 1, 3)))]
        return self._seed_of_images(files, *chance.choice(((), (signatures.ERROR,), ("probabilities", "label"))))

    def _odd_predict(self, chance: random.Random) -> PredictRequest:
        """A message that is one, and of which each part may be wrong."""
        request = PredictRequest()
        self._fill(request.model_spec, chance)
        for _ in range(chance.choice((0, 1, 1, 1, 2))):
            name = chance.choice(("images", "images", "examples", "", "x" * 9000, "pooled_mixed10"))
            request.inputs[name].CopyFrom(self._odd_tensor(chance))
        request.output_filter.extend(chance.choice(_FILTERS))
        return request

    def _odd_tensor(self, chance: random.Random) -> TensorProto:
        tensor = TensorProto(dtype=chance.choice((7, 7, 7, 1, 3, 9, 10, 0, 20, 21, 101, 107, 99, 2**31 - 1)))
        sizes = [
            chance.choice((0, 1, 1, 2, 8, 9, -1, -(2**62), 2**31, 2**62))
            for _ in range(chance.choice((0, 1, 1, 2, 9, 300)))
        ]
        for size in sizes:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_shape.unknown_rank = chance.random() < 0.05
        if chance.random() < 0.7:
            tensor.string_val.extend(
                chance.choice((b"", *self._images)) for _ in range(chance.choice((0, 1, 1, 2, 8, 9, 2000)))
            )
        if chance.random() < 0.2:
            tensor.tensor_content = chance.randbytes(chance.choice((1, 4, 8, 1000)))
        if chance.random() < 0.2:
            tensor.float_val.extend([float("nan"), 1e38, -1.0][: chance.randint(1, 3)])
        if chance.random() < 0.2:
            tensor.int64_val.extend([chance.choice(NUMBERS)] * chance.choice((1, 8, 5000)))
        if chance.random() < 0.05:
            tensor.resource_handle_val.add(device="/d", name="n")
            tensor.variant_val.add(type_name="tensorflow::DatasetVariantWrapper", metadata=b"x")
        return tensor

    def _odd_classify(self, chance: random.Random) -> ClassificationRequest:
        request = ClassificationRequest()
        self._fill(request.model_spec, chance)
        kind = chance.choice(("example_list", "example_list", "example_list", "example_list_with_context"))
        examples = getattr(request.input, kind).examples
        for _ in range(chance.choice((0, 1, 1, 2, 9))):
            example = _example(mutated(self._images, chance))
            for name in chance.choice(((), (), ("label", ""), (IMAGE,))):
                example.features.feature[name].int64_list.value.append(chance.choice((0, -1, 2**62)))
            examples.append(example)
        return request

    def _fill(self, spec: Any, chance: random.Random) -> None:
        if chance.random() < 0.97:
            spec.name = chance.choice((*[_NAME] * 9, "", "x\0", "\U0001f600" * 3000))
        spec.signature_name = chance.choice((*[signatures.IMAGES] * 4, *_SIGNATURES))
        version = chance.random()
        if version < 0.1:
            spec.version.value = chance.choice((_VERSION, 0, -1, -(2**63), 2**63 - 1))
        elif version < 0.15:
            spec.version_label = chance.choice(("stable", "", "\x1b[31m"))

    def attempt(self, data: bytes) -> str:
        outcome = self._send(data)
        self._turns += 1
        if self._turns % 500 == 0:
            assert self._send(_PREDICT + b"\n" + self._good) == "answered", "a good request is refused now"
        return outcome

    def _send(self, data: bytes) -> str:
        name, _, message = data.partition(b"\n")
        try:
            self._calls.get(name, self._calls[_PREDICT])(message, timeout=60)
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            assert code in _REFUSALS, f"{code.name}: {details}"
            if code is not grpc.StatusCode.UNIMPLEMENTED:
                check_message(details)
            return f"refused: {code.name.lower()}"
        return "answered"


_SIGNATURES = (
    "", signatures.EXAMPLES, signatures.CLASSIFY, signatures.LABELS, signatures.MAPS, signatures.FEATURES,
    "__saved_model_init_op", "a\0b", "s" * 5000,
)  # fmt: skip
_FILTERS: tuple[tuple[str, ...], ...] = (
    (),
    (),
    ("label",),
    ("label", "label"),
    ("",),
    ("x" * 3000,),
    (signatures.ERROR,),
)


def _example(data: bytes) -> tf.train.Example:
    example = tf.train.Example()
    example.features.feature[IMAGE].bytes_list.value.append(data)
    return example
