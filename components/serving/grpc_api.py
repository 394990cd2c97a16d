"""The API over gRPC: TensorFlow Serving's services, gRPC's health service and its reflection.

Every method is registered as taking a stream of bytes, which is the same on the wire, so that the server can wait for a
message with a deadline, and inspect it before parsing.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from grpc_health.v1 import health, health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2
from tensorflow_serving.apis.classification_pb2 import ClassificationResponse
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, GetModelMetadataResponse
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceServicer, add_ModelServiceServicer_to_server
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    add_PredictionServiceServicer_to_server,
)

from components.serving import request_checks, request_size
from components.serving.admission import Admission
from components.serving.model_api import Call, ModelApi, Question, RefusedError
from components.serving.request_checks import invalid
from components.serving.request_size import TooLargeError
from components.serving.workers import Workers
from core.settings.serving import AROUND_IMAGES

_SMALL_SECONDS = 5.0  # to wait for the message of a method that takes no images
_SMALL_PLACES = 16  # for such methods, so that a busy server still reports health and status
_OPEN_STREAMS = 64  # of the health service's Watch and of reflection
_CONNECTIONS = 512
_HANDSHAKE_MS = 10_000
_OURS = [
    file.services_by_name[name].full_name
    for file, name in (
        (prediction_service_pb2.DESCRIPTOR, "PredictionService"),
        (model_service_pb2.DESCRIPTOR, "ModelService"),
    )
]
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_WITH_IMAGES = ("Predict", "Classify")


class GrpcApi(PredictionServiceServicer, ModelServiceServicer):
    """The services of TensorFlow Serving; `_Guard` passes the bytes of a message and the call to their methods."""

    def __init__(self, api: ModelApi, workers: Workers) -> None:
        self._api = api
        self._workers = workers

    async def Predict(self, message: bytes, call: Call) -> PredictResponse:
        """Runs a signature on tensors; `output_filter` chooses among its outputs."""
        with contextlib.ExitStack() as held:
            spec, question = await self._workers.run(self._read_predict, message, call, held)
            outputs = await self._api.predict(call, question)
            return await self._workers.run(_predict_response, spec, outputs)

    async def Classify(self, message: bytes, call: Call) -> ClassificationResponse:
        """Gives every class a score, for each tf.Example."""
        with contextlib.ExitStack() as held:
            spec, question = await self._workers.run(self._read_classify, message, call, held)
            response = ClassificationResponse(model_spec=spec)
            for scores in await self._api.classify(call, question):
                classes = response.result.classifications.add().classes
                for label, score in scores:
                    classes.add(label=label, score=score)
            return response

    async def GetModelMetadata(self, message: bytes, call: Call) -> GetModelMetadataResponse:
        """Gives the signatures."""
        return self._api.metadata(_with_spec(GetModelMetadataRequest.FromString(message)), call)

    async def GetModelStatus(self, message: bytes, call: Call) -> GetModelStatusResponse:
        """Gives the state of the version asked for, or of all."""
        return self._api.status(_with_spec(GetModelStatusRequest.FromString(message)), call)

    def _read_predict(self, message: bytes, call: Call, held: contextlib.ExitStack) -> tuple[ModelSpec, Question]:
        request_size.check_predict(message)
        request = _with_spec(PredictRequest.FromString(message))
        spec, model = held.enter_context(self._api.use(request.model_spec, call))
        definition = request_checks.definition_for_predict(model, spec.signature_name)
        request_checks.check_names(request.inputs, definition)
        inputs = {name: self._array(name, proto, definition) for name, proto in request.inputs.items()}
        request_checks.check_outputs(request.output_filter, definition)
        return spec, self._api.question(call, model, inputs, list(request.output_filter))

    def _array(self, name: str, proto: Any, definition: Any) -> np.ndarray:
        """A tensor as an array, after the checks of predict_util.cc and of its size."""
        shape = [dimension.size for dimension in proto.tensor_shape.dim]
        try:
            expected, given = (tf.as_dtype(one.dtype) for one in (definition.inputs[name], proto))
            if given != expected:
                raise invalid(f"Expects {name} to be {expected.name} but {given.name} is provided")
            if min(shape, default=0) < 0:
                raise ValueError("a negative size")
            request_checks.check_shape(name, shape, definition, self._api.limits)
            return tf.make_ndarray(proto)
        except (ValueError, TypeError, IndexError) as error:
            raise invalid(f"tensor parsing error: {name}") from error

    def _read_classify(self, message: bytes, call: Call, held: contextlib.ExitStack) -> tuple[ModelSpec, Question]:
        """Reads a Classify request without parsing its tf.Examples, which the model does."""
        request, examples = request_size.split_classify(message)
        spec, model = held.enter_context(self._api.use(_with_spec(request).model_spec, call))
        definition = request_checks.definition_for_classify(model, spec.signature_name)
        if request.input.WhichOneof("kind") == "example_list_with_context":
            raise tf.errors.UnimplementedError(None, None, "example_list_with_context is not supported")
        if not examples:
            raise invalid("Input is empty")
        request_checks.check_batch(len(examples), self._api.limits)
        inputs = dict.fromkeys(definition.inputs, np.array(examples, dtype=object))
        return spec, self._api.question(call, model, inputs)


def _predict_response(spec: ModelSpec, outputs: dict[str, np.ndarray]) -> PredictResponse:
    response = PredictResponse(model_spec=spec)
    for name, value in outputs.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return response


def _with_spec(request: Any) -> Any:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request


class _Guard(grpc.aio.ServerInterceptor):
    """Waits for each message within bounds, before its method is called."""

    def __init__(self, api: ModelApi, places: Admission) -> None:
        self._api = api
        self._places = places
        self._small = Admission(_SMALL_PLACES)
        self._streams = Admission(_OPEN_STREAMS)

    async def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:
        """Puts a handler of ours before that of the method."""
        handler = await continuation(details)
        if handler is None:
            return None
        _, service, method = details.method.split("/")
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(handler), response_serializer=handler.response_serializer
            )
        if service in _OURS:
            return grpc.stream_stream_rpc_method_handler(
                self._own(handler, method), response_serializer=handler.response_serializer
            )
        return grpc.stream_unary_rpc_method_handler(
            self._unary(handler), response_serializer=handler.response_serializer
        )

    def _own(self, handler: Any, method: str) -> Callable[..., Any]:
        """Of a method of TensorFlow Serving, which takes bytes and the call."""

        async def respond(_: object, context: grpc.aio.ServicerContext) -> None:
            if not inspect.iscoroutinefunction(handler.unary_unary):
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not supported")
            remaining = context.time_remaining()
            try:
                async with self._api.call("grpc", method, math.inf if remaining is None else remaining) as call:
                    places = self._places if method in _WITH_IMAGES else self._small
                    with places.place(_address(context)) as place:
                        most = None if method in _WITH_IMAGES else AROUND_IMAGES
                        seconds = call.end - time.monotonic() if most is None else _SMALL_SECONDS
                        message = await place.wait_for(_message(context, most), seconds)
                        answer = await handler.unary_unary(message, call)
                        del message
                        # A stream of one, which on the wire is the same: an answer that nobody takes holds its place.
                        seconds = call.end - time.monotonic()
                        await place.wait_for(context.write(answer), seconds, "answer was not taken")
            except RefusedError as refusal:
                await context.abort(refusal.code, refusal.message)

        return respond

    def _unary(self, handler: Any) -> Callable[..., Any]:
        async def respond(_: object, context: grpc.aio.ServicerContext) -> Any:
            try:
                with self._small.place(_address(context)) as place:
                    message = await place.wait_for(_message(context, AROUND_IMAGES), _SMALL_SECONDS)
                    request = handler.request_deserializer(message)
            except (tf.errors.OpError, TooLargeError) as error:
                return await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            return await handler.unary_unary(request, context)

        return respond

    def _stream(self, handler: Any) -> Callable[..., Any]:
        """Of Watch, which takes one message, or of reflection, which takes many and ends after `request_seconds`."""

        async def respond(_: object, context: grpc.aio.ServicerContext) -> None:
            end = time.monotonic() + self._api.limits.request_seconds
            try:
                with self._streams.place(_address(context)) as place:
                    if handler.unary_stream:
                        message = await place.wait_for(_message(context, AROUND_IMAGES), _SMALL_SECONDS)
                        await handler.unary_stream(handler.request_deserializer(message), context)
                        return

                    async def requests() -> AsyncIterator[Any]:
                        while True:
                            message = await place.wait_for(context.read(), end - time.monotonic())
                            if message is grpc.aio.EOF:
                                return
                            yield handler.request_deserializer(_small(message, AROUND_IMAGES))

                    async for response in handler.stream_stream(requests(), context):
                        await context.write(response)
            except (tf.errors.OpError, TooLargeError) as error:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

        return respond


def _address(context: grpc.aio.ServicerContext) -> str:
    """The client's address, without its port."""
    return context.peer().rpartition(":")[0]


async def _message(context: grpc.aio.ServicerContext, most: int | None) -> bytes:
    message = await context.read()
    if message is grpc.aio.EOF:
        raise invalid("the request has no message")
    return _small(message, most)


def _small(message: bytes, most: int | None) -> bytes:
    if most is not None and len(message) > most:
        raise TooLargeError(f"the request has {len(message):,} bytes; it may have {most:,}")
    return message


class GrpcServer:
    """Listens for gRPC in the running event loop."""

    def __init__(self, api: ModelApi, places: Admission, workers: Workers) -> None:
        self._drain_seconds = api.limits.drain_seconds
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=[_Guard(api, places)],
            options=[
                ("grpc.max_receive_message_length", api.limits.message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", 128),  # of a connection
                ("grpc.max_allowed_incoming_connections", _CONNECTIONS),
                ("grpc.max_connection_idle_ms", 300_000),
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
                ("grpc.so_reuseport", 0),  # or a second server on the port would take half of the requests
            ],
        )
        servicer = GrpcApi(api, workers)
        add_PredictionServiceServicer_to_server(servicer, self._server)
        add_ModelServiceServicer_to_server(servicer, self._server)
        add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*_OURS, _HEALTH, reflection.SERVICE_NAME], self._server)

    async def start(self, host: str, port: int, credentials: grpc.ServerCredentials | None) -> int:
        """Listens; returns the port.

        Raises:
            RuntimeError: it is taken.
        """
        address = f"{host}:{port}"
        add = self._server.add_secure_port if credentials else self._server.add_insecure_port
        found = add(address, *([credentials] if credentials else []))
        for service in _OURS:
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()
        return found

    async def stop(self) -> None:
        """Takes no more requests, and returns when those begun have ended, or are canceled after `drain_seconds`."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._drain_seconds)
