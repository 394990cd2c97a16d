"""The API over HTTP: TensorFlow Serving's REST, and `/metrics` for Prometheus; an ASGI application and its server.

URLs, statuses and messages are those of tensorflow_serving/model_servers/http_rest_api_{handler,util}.cc.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import re
import socket
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar
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
_IDLE_SECONDS = 10  # for a handshake, without a request, for the rest of its head, and without taking more of an answer
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

T = TypeVar("T")
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class RestApi:
    """The ASGI application."""

    def __init__(
        self, api: ModelApi, places: Admission, workers: Workers, metrics: Callable[[], tuple[bytes, str]] | None = None
    ) -> None:
        """`metrics` returns the text for Prometheus, and its content type."""
        self._api = api
        self._places = places
        self._workers = workers
        self._metrics = metrics

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request."""
        method, path = scope["method"], scope["raw_path"].decode("ascii", "replace")
        kind = _JSON
        unread = b"expect" not in dict(scope["headers"])  # who asks first whether to send a body waits

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
            address, _ = scope["client"] or ("", 0)
            with self._places.place(address) as place, contextlib.ExitStack() as held:
                body = await place.wait_for(self._body(scope, receive), call.end - time.monotonic())
                if method == "Classify":
                    question = await self._workers.run(self._read_classify, spec, body, call, held)
                    results = await _unless_gone(receive, self._api.classify(call, question))
                    return await self._workers.run(rest_json.classifications, results)
                question, rows = await self._workers.run(self._read_predict, spec, body, call, held)
                del body
                outputs = await _unless_gone(receive, self._api.predict(call, question))
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

    async def _body(self, scope: Mapping[str, Any], receive: Receive) -> bytearray:
        """The body of a request.

        Raises:
            TooLargeError: it has more bytes than a request may, by its header, or when so many have come or been
                decompressed.
            tf.errors.InvalidArgumentError: it is compressed otherwise than with gzip, or its gzip is damaged.
        """
        most = request_size.json_bytes(self._api.limits)
        headers = dict(scope["headers"])
        encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").lower()
        if encoding not in ("identity", "gzip"):
            raise invalid(f"Content-Encoding {encoding[:40]} is not supported; send gzip, or the JSON as it is")
        gzip = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding == "gzip" else None
        size = int(headers.get(b"content-length", b"0"))
        body, received, more = bytearray(), 0, True
        while more and max(size, received, len(body)) <= most:
            message = await receive()
            _check_here(message)
            chunk, more = message.get("body", b""), message.get("more_body", False)
            received += len(chunk)
            body += await self._workers.run(_decompressed, gzip, chunk, most + 1 - len(body)) if gzip else chunk
        if (found := max(size, received, len(body))) > most:
            raise TooLargeError(f"the request is larger than max: {found:,} bytes vs. {most:,}")
        if gzip and not gzip.eof:
            raise invalid("the gzip of the body is cut short")
        return body

    def _read_predict(
        self, spec: ModelSpec, body: bytearray, call: Call, held: contextlib.ExitStack
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

    def _read_classify(self, spec: ModelSpec, body: bytearray, call: Call, held: contextlib.ExitStack) -> Question:
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


def _decompressed(gzip: Any, chunk: bytes, most: int) -> bytes:
    try:
        found = gzip.decompress(chunk, most)
    except zlib.error as error:
        raise invalid(f"the body is no gzip: {error}") from error
    if gzip.unused_data:
        raise invalid("the body has more than its gzip")
    return found


async def _unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """What is awaited, for a client whose body is here; for one that goes away nothing more is computed.

    Raises:
        tf.errors.CancelledError: it has gone.
    """
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(receive())
    try:
        await asyncio.wait([working, gone], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            _check_here(gone.result())
        return await working
    finally:
        gone.cancel()
        working.cancel()


def _check_here(message: Mapping[str, Any]) -> None:
    if message["type"] == "http.disconnect":
        raise tf.errors.CancelledError(None, None, "the client has gone")


class _Protocol(H11Protocol):
    """Uvicorn's protocol with timeouts: it would wait forever for a request, a head's end, and unread answers."""

    _since = 0.0
    _unsent = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Makes room for one more."""
        super().connection_made(transport)
        self._expect_a_request()
        if len(self.connections) > _CONNECTIONS:
            idle = [c for c in self.connections if isinstance(c, _Protocol) and c._is_idle()]
            min(idle, key=lambda connection: connection._since).transport.abort()

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
        self._look_again()

    def _look_again(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self.loop.call_later(_IDLE_SECONDS, self._end_if_stalled)

    def _end_if_stalled(self) -> None:
        unsent, before = self.transport.get_write_buffer_size(), self._unsent
        if unsent == before and (unsent or self.transport.is_closing()):
            self.transport.abort()  # closing waits for what is unsent, and over TLS for the client to agree
        elif not unsent and self._is_idle():
            self.transport.close()
        self._unsent = unsent
        self._look_again()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete


class _Server(uvicorn.Server):
    """Uvicorn's server, with a shorter timeout than its minute for a TLS handshake."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens."""
        await self.lifespan.startup()
        make = functools.partial(_Protocol, self.config, self.server_state, self.lifespan.state)
        tls = self.config.ssl
        seconds = _IDLE_SECONDS if tls else None
        self.servers = [
            await asyncio.get_running_loop().create_server(
                make, sock=one, backlog=self.config.backlog, ssl=tls, ssl_handshake_timeout=seconds
            )
            for one in sockets or ()
        ]
        self.started = True


class RestServer:
    """Listens for HTTP in the running event loop."""

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
            self._app, ws="none", lifespan="off", log_config=None, log_level="error",
            access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=math.ceil(self._drain_seconds),
            **(self._tls.for_uvicorn() if self._tls else {}),
        )  # fmt: skip
        self._server = _Server(config)
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
