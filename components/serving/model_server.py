"""A model server that speaks TensorFlow Serving's API, over gRPC and over HTTP (REST), in one process.

One event loop in its own thread talks to clients; other threads read messages and compute. Apart from its limits,
clients of TensorFlow Serving cannot tell the difference (`model_api`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable
from concurrent import futures
from typing import TYPE_CHECKING

from components.serving.admission import Admission
from components.serving.batching import Batcher
from components.serving.grpc_api import GrpcServer
from components.serving.model_api import Call, ModelApi
from components.serving.model_versions import ModelVersions
from components.serving.tls import TlsFiles
from components.serving.workers import Workers
from core.errors import InputError
from core.settings.serving import ServerLimits

if TYPE_CHECKING:  # prometheus_client is imported by who serves others, and not by the serving check
    from components.serving.metrics import Metrics
    from components.serving.rest_api import RestServer

LOOPBACK = "127.0.0.1"


class ModelServer:
    """Serves the versions of one model until it is stopped."""

    def __init__(
        self,
        name: str,
        versions: ModelVersions,
        limits: ServerLimits,
        port: int = 0,
        *,
        host: str = LOOPBACK,
        rest_port: int | None = None,
        tls: TlsFiles | None = None,
        answered: Iterable[Callable[[Call], None]] = (),
        metrics: Metrics | None = None,
    ) -> None:
        """Starts listening; the caller closes `versions`.

        Args:
            name: of the model, as clients call it.
            port: for gRPC; 0 takes a free one.
            host: the address to listen on.
            rest_port: for REST, which is not served if it is None.
            tls: for encrypted connections.
            answered: called in the event loop with every request once it is answered.
            metrics: count requests, and are served on REST's port under `/metrics`.

        Raises:
            InputError: a port is taken.
        """
        self._name = name
        self._versions = versions
        self._limits = limits
        self._answered = [*answered, *([metrics.answered] if metrics else [])]
        self._metrics = metrics
        self._started: futures.Future[tuple[int, int | None]] = futures.Future()
        self._stopping: asyncio.Event
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=[self._serve(host, port, rest_port, tls)], name="model server"
        )
        self._thread.start()
        self.port, self.rest_port = self._started.result()
        shown = _in_address(host)
        self.address = f"{shown}:{self.port}"
        self.rest_address = f"{shown}:{self.rest_port}" if self.rest_port else None

    def stop(self) -> None:
        """Accepts no more requests, and returns when running ones have ended, after at most `drain_seconds`."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def _serve(self, host: str, port: int, rest_port: int | None, tls: TlsFiles | None) -> None:
        limits = self._limits
        self._stopping = asyncio.Event()
        workers = Workers(limits.concurrent)
        metrics = self._metrics
        batcher = Batcher(self._versions, limits, *([metrics.computed] if metrics else []))
        api = ModelApi(self._name, self._versions, limits, batcher, self._answered)
        places = Admission(limits.concurrent + limits.waiting)
        if metrics:
            metrics.watch(self._versions.states, places.__len__, lambda: batcher.waiting)
        async with contextlib.AsyncExitStack() as running:
            running.callback(workers.close)
            running.push_async_callback(batcher.close)
            listening: list[GrpcServer | RestServer] = []

            async def stop() -> None:
                await asyncio.gather(*(server.stop() for server in listening))

            running.push_async_callback(stop)
            try:
                grpc = GrpcServer(api, places, workers)
                listening.append(grpc)
                try:
                    found = await grpc.start(_in_address(host), port, tls.for_grpc() if tls else None)
                except RuntimeError as error:
                    raise _taken(host, port) from error
                if rest_port is not None:
                    from components.serving.rest_api import RestApi, RestServer

                    rest = RestServer(
                        RestApi(api, places, workers, metrics.text if metrics else None), limits.drain_seconds, tls
                    )
                    try:
                        rest_port = await rest.start(host, rest_port)
                    except OSError as error:
                        raise _taken(host, rest_port) from error
                    listening.append(rest)
            except BaseException as error:
                self._started.set_exception(error)
                return
            self._started.set_result((found, rest_port))
            await self._stopping.wait()


def _in_address(host: str) -> str:
    """IPv6 needs brackets before a port."""
    return f"[{host}]" if ":" in host else host


def _taken(host: str, port: int) -> InputError:
    return InputError(
        f"port {port} of {host} cannot be used; another server probably has it, or {host} is no address of this "
        "machine: take another with --port, --rest-port or --host"
    )
