"""A model server that speaks TensorFlow Serving's gRPC API, for checks and for trying a model on one machine.

Predict, Classify, GetModelMetadata and GetModelStatus, with the status codes and messages of TensorFlow Serving 2.x
(tensorflow_serving/servables/tensorflow/{predict_util,classifier,get_model_metadata_impl}.cc and
model_servers/{server_core,get_model_status_impl}.cc), so that its clients cannot tell the difference; only its
limits are its own. It listens on 127.0.0.1 alone and encrypts nothing.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, TypeVar

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from components.serving.model_versions import ModelVersions, NoSuchVersionError
from components.serving.served_model import ServedModel, first_line
from core.errors import InputError
from core.settings.serving import ServerLimits

HOST = "127.0.0.1"

_LOG = logging.getLogger(__name__)
_CANCEL_SECONDS = 5.0  # gRPC cancels what has not ended by then; whoever stops a server must not wait for it for ever
_SIGNATURE_DEF = "signature_def"
_METHODS = (
    tf.saved_model.PREDICT_METHOD_NAME,
    tf.saved_model.CLASSIFY_METHOD_NAME,
    tf.saved_model.REGRESS_METHOD_NAME,
)
_CODES = {code.value[0]: code for code in grpc.StatusCode}
"""TensorFlow's error codes are gRPC's."""

Response = TypeVar("Response")


def _invalid(reason: str) -> tf.errors.InvalidArgumentError:
    return tf.errors.InvalidArgumentError(None, None, reason)


def _not_found(reason: str) -> tf.errors.NotFoundError:
    return tf.errors.NotFoundError(None, None, reason)


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


class ModelServer(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """Serves the versions of one model until it is stopped."""

    def __init__(self, name: str, versions: ModelVersions, limits: ServerLimits, port: int = 0) -> None:
        """Starts listening.

        Args:
            name: what clients call the model.
            versions: of the model; the caller closes them.
            limits: of requests.
            port: 0 takes a free one.

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
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, self._server)
        try:
            self.port = self._server.add_insecure_port(f"{HOST}:{port}")
        except RuntimeError as error:
            raise InputError(f"port {port} of {HOST} cannot be used; another server probably has it") from error
        self._server.start()

    @property
    def address(self) -> str:
        """Where it listens, for a client's channel."""
        return f"{HOST}:{self.port}"

    def stop(self) -> None:
        """Takes no more requests, and returns when those begun have ended, `drain_seconds` later at most."""
        self._server.stop(self._limits.drain_seconds).wait(self._limits.drain_seconds + _CANCEL_SECONDS)

    @_rpc
    def Predict(  # noqa: N802 - gRPC's name, as those below
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs a signature on tensors; `output_filter` chooses among its outputs."""
        with self._use(request) as (version, model):
            signature = _signature_name(request)
            if signature not in model.signatures:
                raise tf.errors.FailedPreconditionError(None, None, f'Serving signature key "{signature}" not found.')
            definition = model.signatures[signature]
            if definition.method_name not in _METHODS:
                raise tf.errors.InternalError(
                    None,
                    None,
                    f"Expected prediction signature method_name to be one of {{{', '.join(_METHODS)}}}. "
                    f"Was: {definition.method_name}",
                )
            inputs = self._inputs(request, definition)
            outputs = _outputs(request, definition)
            response = predict_pb2.PredictResponse(model_spec=self._spec(version, signature))
            for name, value in self._run(model, context, signature, inputs, outputs).items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response

    @_rpc
    def Classify(  # noqa: N802
        self, request: classification_pb2.ClassificationRequest, context: grpc.ServicerContext
    ) -> classification_pb2.ClassificationResponse:
        """Gives every class a score, for each tf.Example."""
        with self._use(request) as (version, model):
            signature = _signature_name(request)
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
            (name,) = definition.inputs
            serialized = np.array([example.SerializeToString() for example in examples], dtype=object)
            answer = self._run(model, context, signature, {name: serialized}, [])
            response = classification_pb2.ClassificationResponse(model_spec=self._spec(version, signature))
            for classes, scores in zip(answer["classes"], answer["scores"], strict=True):
                classifications = response.result.classifications.add()
                for label, score in zip(classes, scores, strict=True):
                    classifications.classes.add(label=label, score=score)
            return response

    @_rpc
    def GetModelMetadata(  # noqa: N802
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Gives the signatures."""
        del context
        if not request.metadata_field:
            raise _invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise _invalid(f"Metadata field {field} is not supported")
        with self._use(request) as (version, model):
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=model.signatures)
            response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=self._spec(version))
            response.metadata[_SIGNATURE_DEF].Pack(signatures)
            return response

    @_rpc
    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Gives the state of the version asked for, or of all."""
        del context
        name, number = request.model_spec.name, _version_number(request.model_spec)
        states = self._versions.states() if name == self.name else []
        if number is not None:
            states = [state for state in states if state.number == number]
            if not states:
                raise _not_found(f"Could not find version {number} of model {name}")
        if not states:
            raise _not_found(f"Could not find any versions of model {name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for state in states:
            status = response.model_version_status.add(
                version=state.number, state=get_model_status_pb2.ModelVersionStatus.State.Value(state.state)
            )
            status.status.error_code = tf.errors.UNKNOWN if state.error else tf.errors.OK
            status.status.error_message = state.error
        return response

    @contextlib.contextmanager
    def _use(self, request: Any) -> Iterator[tuple[int, ServedModel]]:
        """The version a request is for."""
        name, number = request.model_spec.name, _version_number(request.model_spec)
        asked = f"Latest({name})" if number is None else f"Specific({name}, {number})"
        not_found = _not_found(f"Servable not found for request: {asked}")
        if name != self.name:
            raise not_found
        try:
            with self._versions.use(number) as used:
                yield used
        except NoSuchVersionError:
            raise not_found from None

    def _spec(self, version: int, signature: str = "") -> model_pb2.ModelSpec:
        spec = model_pb2.ModelSpec(name=self.name, signature_name=signature)
        spec.version.value = version
        return spec

    def _inputs(self, request: predict_pb2.PredictRequest, definition: Any) -> dict[str, np.ndarray]:
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
            expected, given = tf.as_dtype(definition.inputs[name].dtype), proto.dtype
            if given != expected.as_datatype_enum:
                raise _invalid(f"Expects {name} to be {expected.name} but {_type_name(given)} is provided")
            sizes = [dimension.size for dimension in proto.tensor_shape.dim]
            self._check_batch(math.prod(sizes))  # before it is read: one value stands for as many as the shape has
            try:
                if min(sizes, default=0) < 0:
                    raise ValueError("a negative size")
                inputs[name] = tf.make_ndarray(proto)
            except (ValueError, TypeError, IndexError) as error:
                raise _invalid(f"tensor parsing error: {name}") from error
        return inputs

    def _check_batch(self, images: int) -> None:
        if images > self._limits.max_batch:
            raise _invalid(f"the request has {images} images; it may have at most {self._limits.max_batch}")

    def _run(
        self,
        model: ServedModel,
        context: grpc.ServicerContext,
        signature: str,
        inputs: dict[str, np.ndarray],
        outputs: list[str],
    ) -> dict[str, np.ndarray]:
        """Runs the model when it is this request's turn, within the client's deadline and the server's."""
        remaining = context.time_remaining()
        seconds = min(self._limits.request_seconds, self._limits.request_seconds if remaining is None else remaining)
        end = time.monotonic() + seconds
        if not self._running.acquire(timeout=max(0.0, seconds)):
            raise tf.errors.DeadlineExceededError(None, None, f"the server was busy for {seconds:.1f} s")
        try:
            return model.run(signature, inputs, outputs, timeout_seconds=end - time.monotonic())
        finally:
            self._running.release()


def _signature_name(request: Any) -> str:
    return request.model_spec.signature_name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY


def _version_number(spec: model_pb2.ModelSpec) -> int | None:
    """The version asked for; None means the latest."""
    if spec.WhichOneof("version_choice") == "version_label":
        raise _invalid(f"Unrecognized servable version label: {spec.version_label}")
    return spec.version.value if spec.HasField("version") else None


def _outputs(request: predict_pb2.PredictRequest, definition: Any) -> list[str]:
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


def _type_name(number: int) -> str:
    try:
        return tf.as_dtype(number).name
    except TypeError:
        return f"type {number}"


def _set(names: Any) -> str:
    return "{" + ",".join(sorted(names)) + "}"
