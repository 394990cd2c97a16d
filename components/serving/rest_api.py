"""The API over HTTP: TensorFlow Serving's REST, and `/metrics` for Prometheus; an ASGI application and its server.

URLs, statuses and messages are those of tensorflow_serving/model_servers/http_rest_api_{handler,util}.cc.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import grpc
import msgspec
import numpy as np
import tensorflow as tf
import uvicorn
from google.protobuf import json_format
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.model_pb2 import ModelSpec
from uvicorn.protocols.http.h11_impl import H11Protocol

from components.serving import request_checks, request_size, rest_json
from components.serving.admission import Admission
from components.serving.model_api import Call, ModelApi, Question, RefusedError
from components.serving.request_checks import invalid
from components.serving.request_size import TooLargeError
from components.serving.tls import TlsFiles
from components.serving.workers import Workers

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICTION = re.compile(_MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE)
_STATUS = re.compile(_MODEL + r"(?P<metadata>/metadata)?", re.IGNORECASE)
_LARGEST_VERSION = 2**63 - 1
_JSON = b"application/json"
_IDLE_SECONDS = 10  # for a connection without a request, and for the rest of a request's head
_LINGER_SECONDS = 5
_CONNECTIONS = 512
_CLIENT_CLOSED_REQUEST = 499
_HTTP = {
    grpc.StatusCode.OK: HTTPStatus.OK,
    grpc.StatusCode.CANCELLED: _CLIENT_CLOSED_REQUEST,
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class RestApi:
    """The ASGI application."""

    def __init__(
        self, api: ModelApi, places: Admission, workers: Workers, metrics: Callable[[], tuple[bytes, str]] | None = None
    ) -> None:
        """`metrics` gives what Prometheus is told, and its content type."""
        self._api = api
        self._places = places
        self._workers = workers
        self._metrics = metrics

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request."""
        method, path = scope["method"], scope["raw_path"].decode("ascii", "replace")
        kind = _JSON
        unread = not any(
            name == b"expect" for name, _ in scope["headers"]
        )  # who asks first whether to send a body waits

        async def receive_some() -> Mapping[str, Any]:
            nonlocal unread
            message = await receive()
            unread = message.get("more_body", False)
            return message

        try:
            if method == "GET" and path == "/metrics" and self._metrics:
                body, content_type = self._metrics()
                kind = content_type.encode()
            elif method == "POST" and (found := _PREDICTION.fullmatch(path)):
                body = await self._predict(found, scope, receive_some)
            elif method == "GET" and (found := _STATUS.fullmatch(path)):
                body = await self._describe(found)
            elif path.lower().startswith("/v1/"):
                missing = re.fullmatch("/v1/models/?", path.lower()) and method == "GET"
                words = "Missing model name in request." if missing else f"Malformed request: {method} {path[:200]}"
                raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, words)
            else:
                raise RefusedError(grpc.StatusCode.NOT_FOUND, f"Not found: {path[:200]}")
            status: int = HTTPStatus.OK
        except RefusedError as refusal:
            status = _HTTP.get(refusal.code, HTTPStatus.INTERNAL_SERVER_ERROR)
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if refusal.too_large else status
            body = rest_json.error(refusal.message)
            linger_until = time.monotonic() + _LINGER_SECONDS
            with contextlib.suppress(asyncio.TimeoutError):
                while unread:  # what a client still sends: it reads no answer before
                    await asyncio.wait_for(receive_some(), max(0.0, linger_until - time.monotonic()))
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        if status != HTTPStatus.OK:
            headers.append((b"connection", b"close"))  # the rest of a request may still be on its way
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _predict(self, path: re.Match[str], scope: Mapping[str, Any], receive: Receive) -> bytes:
        method = path["method"].capitalize()
        async with self._api.call("rest", method) as call:
            spec = _spec(path)
            if method == "Regress":
                raise RefusedError(grpc.StatusCode.UNIMPLEMENTED, "Regress is not supported")
            with self._places.place() as place, contextlib.ExitStack() as held:
                most = request_size.json_bytes(self._api.limits)
                body = await place.read(_body(scope, receive, most), call.end - time.monotonic())
                if method == "Classify":
                    question = await self._workers.run(self._read_classify, spec, body, call, held)
                    results = await self._api.classify(call, question)
                    return await self._workers.run(rest_json.classifications, results)
                question, rows = await self._workers.run(self._read_predict, spec, body, call, held)
                del body
                outputs = await self._api.predict(call, question)
                return await self._workers.run(lambda: rest_json.predictions(outputs, rows=rows))

    async def _describe(self, path: re.Match[str]) -> bytes:
        """The state of the model's versions, or the signatures of one."""
        method = "GetModelMetadata" if path["metadata"] else "GetModelStatus"
        async with self._api.call("rest", method) as call:
            spec = _spec(path)
            if method == "GetModelStatus":
                return _json(self._api.status(GetModelStatusRequest(model_spec=spec), call))
            request = GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
            response = self._api.metadata(request, call)
            definitions = SignatureDefMap()
            response.metadata["signature_def"].Unpack(definitions)
            metadata = {"signature_def": _as_dict(definitions)}
            return _pretty({"model_spec": _as_dict(response.model_spec), "metadata": metadata})

    def _read_predict(
        self, spec: ModelSpec, body: bytes, call: Call, held: contextlib.ExitStack
    ) -> tuple[Question, bool]:
        request_size.check_json(body)
        document = rest_json.parse(body)
        spec.signature_name = rest_json.signature_name(document)
        spec, model = held.enter_context(self._api.use(spec, call))
        if spec.signature_name not in model.signatures:
            raise invalid(f'Serving signature name: "{spec.signature_name}" not found in signature def')
        definition = model.signatures[spec.signature_name]
        inputs, rows = rest_json.tensors(document, definition, self._api.limits)
        return self._api.question(call, model, inputs), rows

    def _read_classify(self, spec: ModelSpec, body: bytes, call: Call, held: contextlib.ExitStack) -> Question:
        request_size.check_json(body)
        document = rest_json.parse(body)
        spec.signature_name = rest_json.signature_name(document)
        spec, model = held.enter_context(self._api.use(spec, call))
        definition = request_checks.definition_for_classify(model, spec.signature_name)
        examples = rest_json.examples(document, self._api.limits)
        return self._api.question(call, model, dict.fromkeys(definition.inputs, np.array(examples, dtype=object)))


def _spec(path: re.Match[str]) -> ModelSpec:
    spec = ModelSpec(name=unquote(path["name"]))
    if path["version"]:
        if len(path["version"]) > len(str(_LARGEST_VERSION)) or int(path["version"]) > _LARGEST_VERSION:
            raise invalid(f"Failed to convert version: {path['version'][:40]} to numeric.")
        spec.version.value = int(path["version"])
    elif path["label"]:
        spec.version_label = unquote(path["label"])
    return spec


async def _body(scope: Mapping[str, Any], receive: Receive, most: int) -> bytes:
    """The body of a request.

    Raises:
        TooLargeError: it has more than `most` bytes, by its header or when so many have come.
        tf.errors.InvalidArgumentError: it is compressed.
    """
    headers = {name: value for name, value in scope["headers"] if name in (b"content-length", b"content-encoding")}
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1")
    if encoding.lower() != "identity":
        raise invalid(f"Content-Encoding {encoding[:40]} is not supported; send the JSON as it is")
    size = int(headers.get(b"content-length", b"0"))
    chunks, received, more = [], 0, True
    while more and max(size, received) <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise tf.errors.CancelledError(None, None, "the client has gone")
        chunks.append(message.get("body", b""))
        received += len(chunks[-1])
        more = message.get("more_body", False)
    if max(size, received) > most:
        raise TooLargeError(f"the request is larger than max: {max(size, received):,} bytes vs. {most:,}")
    return b"".join(chunks)


class _Protocol(H11Protocol):
    """Uvicorn's, which waits forever for the first request of a connection and for the end of a request's head."""

    _since = 0.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Makes room for one more."""
        super().connection_made(transport)
        self._expect_a_request()
        if len(self.connections) > _CONNECTIONS:
            idle = [c for c in self.connections if isinstance(c, _Protocol) and c._is_idle()]
            min(idle, key=lambda connection: connection._since).transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the waiting."""
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Waits for the next request."""
        super().on_response_complete()
        self._expect_a_request()

    def _expect_a_request(self) -> None:
        self._since = self.loop.time()
        if self._timer:
            self._timer.cancel()
        self._timer = self.loop.call_later(_IDLE_SECONDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete


class RestServer:
    """Listens for HTTP, in the event loop that is running."""

    def __init__(self, app: RestApi, drain_seconds: float, tls: TlsFiles | None) -> None:
        self._tls = tls
        self._drain_seconds = drain_seconds
        self._app = app

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port.

        Raises:
            OSError: it is taken.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # With the protocol named: asyncio lets no packet wait for another (TCP_NODELAY) only then.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        config = uvicorn.Config(
            self._app, http=_Protocol, ws="none", lifespan="off", log_config=None, log_level="error",
            access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=math.ceil(self._drain_seconds),
            **(self._tls.for_uvicorn() if self._tls else {}),
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._serving = asyncio.ensure_future(self._server.serve([listener]))
        while not self._server.started and not self._serving.done():
            await asyncio.sleep(0.01)
        if self._serving.done():
            await self._serving
        return listener.getsockname()[1]

    async def stop(self) -> None:
        """Takes no more requests, and returns when those begun have ended, or are canceled."""
        self._server.should_exit = True
        await self._serving


def _as_dict(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(message, including_default_value_fields=True, preserving_proto_field_name=True)


def _json(message: Any) -> bytes:
    return _pretty(_as_dict(message))


def _pretty(document: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
