"""A model server that speaks TensorFlow Serving's gRPC API, for checks and for trying a model on one machine.

Predict, Classify, GetModelMetadata and GetModelStatus, with the status codes and messages of TensorFlow Serving 2.x
(tensorflow_serving/servables/tensorflow/{predict_util,classifier,get_model_metadata_impl}.cc and
model_servers/{server_core,get_model_status_impl}.cc), so that its clients cannot tell the difference; only its
limits are its own. It listens on 127.0.0.1 alone and encrypts nothing.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import Any, TypeVar

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest, ClassificationResponse
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceServicer, add_ModelServiceServicer_to_server
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    add_PredictionServiceServicer_to_server,
)

from components.serving.model_versions import ModelVersions, NoSuchVersionError
from components.serving.served_model import ServedModel, first_line, signature_name
from core.errors import InputError
from core.examples import IMAGE
from core.image_limits import MAX_MEGAPIXELS
from core.settings.serving import ServerLimits
from trainer.images.tolerant_decoding import claimed_pixels

_HOST = "127.0.0.1"
_LOG = logging.getLogger(__name__)
_CANCEL_SECONDS = 5.0  # for gRPC to cancel what has not ended by then
_SIGNATURE_DEF = "signature_def"
_FILES = "images"  # the input that takes image files; others take tf.Examples
_CODES = {code.value[0]: code for code in grpc.StatusCode}  # TensorFlow's codes are gRPC's

Response = TypeVar("Response")
_invalid = functools.partial(tf.errors.InvalidArgumentError, None, None)


def _rpc(method: Callable[[Any, Any, grpc.ServicerContext], Response]) -> Callable[..., Response]:
    """A method of the API: turns what it raises into a gRPC status."""

    @functools.wraps(method)
    def respond(self: Any, request: Any, context: grpc.ServicerContext) -> Response:
        try:
            if not request.HasField("model_spec"):
                raise _invalid("Missing ModelSpec")
            return method(self, request, context)
        except tf.errors.OpError as error:
            code, reason = _CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), first_line(error)
        except UnicodeDecodeError:  # TensorFlow cannot raise its error when that quotes such bytes
            code, reason = grpc.StatusCode.INVALID_ARGUMENT, "the model refused what it was sent"
        except ValueError as error:
            code, reason = grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except Exception as error:  # an internal error, which must not end the server
            _LOG.exception("%s failed", method.__name__)
            code, reason = grpc.StatusCode.INTERNAL, f"{type(error).__name__} in {method.__name__}"
        context.abort(code, reason)
        raise AssertionError("abort raises")

    return respond


class ModelServer(PredictionServiceServicer, ModelServiceServicer):
    """Serves the versions of one model until it is stopped."""

    def __init__(self, name: str, versions: ModelVersions, limits: ServerLimits, port: int = 0) -> None:
        """Starts listening; the caller closes `versions`. Port 0 takes a free one.

        Raises:
            InputError: the port is taken.
        """
        self.name = name
        self._versions = versions
        self._limits = limits
        self._running = threading.BoundedSemaphore(limits.concurrent)
        threads = limits.concurrent + limits.waiting
        self._server = grpc.server(
            futures.ThreadPoolExecutor(threads, thread_name_prefix="request"),
            maximum_concurrent_rpcs=threads,
            options=[
                ("grpc.max_receive_message_length", limits.message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # or a second server on the port would take half of the requests
            ],
        )
        add_PredictionServiceServicer_to_server(self, self._server)
        add_ModelServiceServicer_to_server(self, self._server)
        try:
            self.port = self._server.add_insecure_port(f"{_HOST}:{port}")
        except RuntimeError as error:
            raise InputError(f"port {port} of {_HOST} cannot be used; another server probably has it") from error
        self.address = f"{_HOST}:{self.port}"
        self._server.start()

    def stop(self) -> None:
        """Takes no more requests, and returns when those begun have ended, `drain_seconds` later at most."""
        self._server.stop(self._limits.drain_seconds).wait(self._limits.drain_seconds + _CANCEL_SECONDS)

    @_rpc
    def Predict(self, request: PredictRequest, context: grpc.ServicerContext) -> PredictResponse:
        """Runs a signature on tensors; `output_filter` chooses among its outputs."""
        signature = signature_name(request)
        with self._use(request, signature) as (spec, model):
            if signature not in model.signatures:
                raise tf.errors.FailedPreconditionError(None, None, f'Serving signature key "{signature}" not found.')
            definition = model.signatures[signature]
            inputs, outputs = self._inputs(request, definition), _outputs(request, definition)
            with self._turn(context) as seconds:
                found = model.run(signature, inputs, outputs, timeout_seconds=seconds)
            response = PredictResponse(model_spec=spec)
            for name, value in found.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response

    @_rpc
    def Classify(self, request: ClassificationRequest, context: grpc.ServicerContext) -> ClassificationResponse:
        """Gives every class a score, for each tf.Example."""
        signature = signature_name(request)
        with self._use(request, signature) as (spec, model):
            if signature not in model.signatures:
                raise _invalid(f"No signature was found with the name: {signature}")
            definition = model.signatures[signature]
            if definition.method_name != tf.saved_model.CLASSIFY_METHOD_NAME:
                raise _invalid(
                    "Expected classification signature method_name to be "
                    f"{tf.saved_model.CLASSIFY_METHOD_NAME}. Was: {definition.method_name}"
                )
            kind = request.input.WhichOneof("kind")
            examples = getattr(request.input, kind).examples if kind else ()
            if kind == "example_list_with_context":
                raise tf.errors.UnimplementedError(None, None, "example_list_with_context is not supported")
            if not examples:
                raise _invalid("Input is empty")
            self._check_batch(len(examples))
            serialized = np.array([example.SerializeToString() for example in examples], dtype=object)
            self._check_pixels(itertools.chain.from_iterable(map(_images_in, serialized)))
            with self._turn(context) as seconds:
                found = model.run(signature, dict.fromkeys(definition.inputs, serialized), timeout_seconds=seconds)
            response = ClassificationResponse(model_spec=spec)
            for classes, scores in zip(found["classes"], found["scores"], strict=True):
                classifications = response.result.classifications.add()
                for label, score in zip(classes, scores, strict=True):
                    classifications.classes.add(label=label, score=score)
            return response

    @_rpc
    def GetModelMetadata(self, request: GetModelMetadataRequest, _: grpc.ServicerContext) -> GetModelMetadataResponse:
        """Gives the signatures."""
        if not request.metadata_field:
            raise _invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise _invalid(f"Metadata field {field} is not supported")
        with self._use(request) as (spec, model):
            response = GetModelMetadataResponse(model_spec=spec)
            response.metadata[_SIGNATURE_DEF].Pack(SignatureDefMap(signature_def=model.signatures))
            return response

    @_rpc
    def GetModelStatus(self, request: GetModelStatusRequest, _: grpc.ServicerContext) -> GetModelStatusResponse:
        """Gives the state of the version asked for, or of all."""
        name, number = request.model_spec.name, _version_number(request.model_spec)
        versions = [v for v in self._versions.states() if name == self.name and number in (None, v.number)]
        if not versions:
            which = "any versions" if number is None else f"version {number}"
            raise tf.errors.NotFoundError(None, None, f"Could not find {which} of model {name}")
        response = GetModelStatusResponse()
        for version in versions:
            code = tf.errors.UNKNOWN if version.error else tf.errors.OK
            status = {"error_code": code, "error_message": version.error}
            response.model_version_status.add(version=version.number, state=version.state, status=status)
        return response

    @contextlib.contextmanager
    def _use(self, request: Any, signature: str = "") -> Iterator[tuple[ModelSpec, ServedModel]]:
        """The version a request is for, and what the response says of it."""
        name, number = request.model_spec.name, _version_number(request.model_spec)
        try:
            if name != self.name:
                raise NoSuchVersionError
            with self._versions.use(number) as (version, model):
                yield ModelSpec(name=name, signature_name=signature, version={"value": version}), model
        except NoSuchVersionError:
            which = f"Latest({name})" if number is None else f"Specific({name}, {number})"
            raise tf.errors.NotFoundError(None, None, f"Servable not found for request: {which}") from None

    def _inputs(self, request: PredictRequest, definition: Any) -> dict[str, np.ndarray]:
        """The request's tensors, after the checks of predict_util.cc and of the batch's size."""
        sent, wanted = set(request.inputs), set(definition.inputs)
        if len(sent) != len(wanted):
            raise _invalid(
                f"input size does not match signature: {len(sent)}!={len(wanted)} len({_set(sent)}) != "
                f"len({_set(wanted)}). Sent extra: {_set(sent - wanted)}. "
                f"Missing but required: {_set(wanted - sent)}."
            )
        inputs = {}
        for name, proto in request.inputs.items():
            if name not in wanted:
                raise _invalid(
                    f"input tensor alias not found in signature: {name}. "
                    f"Inputs expected to be in the set {_set(wanted)}."
                )
            sizes = [dimension.size for dimension in proto.tensor_shape.dim]
            try:
                expected, given = (tf.as_dtype(one.dtype) for one in (definition.inputs[name], proto))
                if given != expected:
                    raise _invalid(f"Expects {name} to be {expected.name} but {given.name} is provided")
                self._check_batch(math.prod(sizes))  # before it is read: one value stands for as many as the shape has
                if min(sizes, default=0) < 0:
                    raise ValueError("a negative size")
                inputs[name] = tf.make_ndarray(proto)
            except (ValueError, TypeError, IndexError) as error:
                raise _invalid(f"tensor parsing error: {name}") from error
            if expected == tf.string:
                values = inputs[name].ravel()
                self._check_pixels(values if name == _FILES else itertools.chain.from_iterable(map(_images_in, values)))
        return inputs

    def _check_batch(self, images: int) -> None:
        if images > self._limits.max_batch:
            raise _invalid(f"the request has {images} images; it may have at most {self._limits.max_batch}")

    def _check_pixels(self, files: Iterable[bytes]) -> None:
        """What no model decodes does not count."""
        pixels = sum(number for number in map(claimed_pixels, files) if number <= MAX_MEGAPIXELS * 1_000_000)
        if pixels > self._limits.pixels:
            raise _invalid(
                f"the request's images have {pixels / 1e6:,.0f} million pixels together; they may have at most "
                f"{self._limits.max_megapixels:,} (serving.server.max_megapixels): send fewer at a time"
            )

    @contextlib.contextmanager
    def _turn(self, context: grpc.ServicerContext) -> Iterator[float]:
        """Waits until the model may run for a request; gives the seconds left of the client's and our own deadline."""
        remaining = context.time_remaining()
        seconds = min(self._limits.request_seconds, math.inf if remaining is None else max(0.0, remaining))
        end = time.monotonic() + seconds
        if not self._running.acquire(timeout=seconds):
            raise tf.errors.DeadlineExceededError(None, None, f"the server was busy for {seconds:.1f} s")
        try:
            yield end - time.monotonic()
        finally:
            self._running.release()


def _images_in(serialized: bytes) -> Sequence[bytes]:
    """Of a tf.Example."""
    try:
        example = tf.train.Example.FromString(serialized)
    except DecodeError:  # the model says so
        return []
    return example.features.feature[IMAGE].bytes_list.value


def _version_number(spec: ModelSpec) -> int | None:
    """The version asked for; None means the latest."""
    if spec.WhichOneof("version_choice") == "version_label":
        raise _invalid(f"Unrecognized servable version label: {spec.version_label}")
    return spec.version.value if spec.HasField("version") else None


def _outputs(request: PredictRequest, definition: Any) -> list[str]:
    """The outputs asked for, after the checks of predict_util.cc."""
    outputs = list(request.output_filter)
    for name in outputs:
        if name not in definition.outputs:
            raise _invalid(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {_set(definition.outputs)}."
            )
        if outputs.count(name) > 1:
            raise _invalid(f"duplicate output tensor alias: {name}")
    return outputs


def _set(names: Any) -> str:
    return "{" + ",".join(sorted(names)) + "}"
