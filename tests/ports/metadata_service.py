"""ML Metadata's gRPC service on 127.0.0.1, over the C++ store of the ml-metadata package, which ships no server.

A Kubeflow cluster runs the same service as a deployment of its own. Requests and answers are passed on as bytes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as native
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.metadata import sqlite_metadata_connection_config

_SERVICE = "ml_metadata.MetadataStoreService"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _Service(grpc.GenericRpcHandler):
    def __init__(self, connection: metadata_store_pb2.ConnectionConfig) -> None:
        self._store = MetadataStore(connection)
        self._lock = threading.Lock()

    def service(self, call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        service, method = call_details.method.strip("/").split("/")
        function: Callable[[object, bytes], tuple[bytes, bytes, int]] | None = getattr(native, method, None)
        if service != _SERVICE or function is None:
            return None

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            with self._lock:
                response, message, code = function(self._store._metadata_store, request)
            if code:
                context.abort(_CODES[code], message.decode())
            return response

        return grpc.unary_unary_rpc_method_handler(answer)


@contextlib.contextmanager
def metadata_service(database: Path) -> Iterator[int]:
    """Serves the store in `database` (SQLite) as long as the context is open; yields the port."""
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((_Service(sqlite_metadata_connection_config(str(database))),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=None).wait()
