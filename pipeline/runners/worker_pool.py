"""A Beam worker pool whose workers are forks of a process that has imported the stack.

    python -m pipeline beam-worker-pool --port 50000

For every job, Flink and Spark ask their node's pool for new workers. Beam's own pool starts a Python process for each,
which first imports TensorFlow and TFX for ten to thirty seconds of a core; a fork starts at once, and shares what was
imported with the others.

There are three kinds of processes: the one that is forked, in which neither gRPC nor TensorFlow ever runs, since their
threads do not survive a fork; the server that the cluster asks; and the workers. All end with the first.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import grpc
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
)
from apache_beam.runners.worker.worker_id_interceptor import WorkerIdInterceptor
from google.protobuf import json_format

from core.errors import InputError
from core.processes import end_with
from pipeline.code_hash import project_hash

CODE = "code"
"""The parameter of a request for a worker that names the code that made the job (`project_hash`)."""

OTHER_CODE = "the worker pool has another version of this project than the pipeline"
"""The pool's answer if its code is not the job's."""

NOT_STARTED = "a worker of the pool did not start; its log says why"
"""What a pool answers whose worker died, or found no job."""

STACK = (
    "apache_beam.runners.worker.sdk_worker_main",
    "components.evaluator",
    "components.feature_extractor",
    "components.image_example_gen",
    "components.predictor",
    "pipeline.inference.batch_predict",
    "tensorflow_data_validation",
    "tensorflow_transform.beam",
    "tfx.components.transform.executor",
    "trainer.preprocessing",
)
"""What workers find imported."""

_CONTEXT = multiprocessing.get_context("fork")
_LOG = logging.getLogger(__name__)
_SECONDS = 45.0
_REQUESTS = 64  # for workers that start at the same time


def serve(host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serves until the process is ended.

    Args:
        host: the address to listen on; nobody is authenticated, so it should be reachable from the node alone.
        ready: called with a sentence when the pool accepts requests.

    Raises:
        InputError: it cannot listen on the address.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _LOG.setLevel(logging.INFO)
    for module in STACK:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a garbage collection in a worker would copy the pages that it shares
    requests, servers = _CONTEXT.Pipe()
    heard, connected = os.pipe()
    _fork(_answer, host, port, servers, heard)
    servers.close()
    try:
        if refused := requests.recv():
            raise InputError(refused)
        ready(f"workers for Beam at {host}:{port}, this project's code {project_hash()}")
        while True:
            request = requests.recv()
            worker = _fork(_work, request, connected)
            multiprocessing.active_children()  # reaps those that have ended
            _LOG.info("worker %s of %s is process %d", request["id"], request["control"], worker.pid)
    except EOFError:
        raise RuntimeError("the server of the worker pool has ended; what it said is above") from None
    finally:
        for process in multiprocessing.active_children():
            process.terminate()


def _fork(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Calls a function in a fork of this process."""
    process = _CONTEXT.Process(target=_run, args=(os.getpid(), function, *arguments))
    process.start()
    return process


def _run(parent: int, function: Callable[..., None], *arguments: Any) -> None:
    """The fork's part; Ctrl-C and who ends the pool end the first process, and so this one."""
    end_with(parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    function(*arguments)


def _answer(host: str, port: int, pipe: Connection, heard: int) -> None:
    """The server: forwards requests, and reads from `heard` which workers have connected."""
    server = grpc.server(ThreadPoolExecutor(_REQUESTS), options=[("grpc.so_reuseport", 0)])
    servicer = _Servicer(pipe)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(servicer, server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        pipe.send(f"{host}:{port} cannot be listened on: is it in use? Give another port or host")
        return
    server.start()
    pipe.send("")
    with os.fdopen(heard) as lines:
        for line in lines:
            servicer.connected(int(line))


class _Servicer(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._code = project_hash()
        self._numbers = itertools.count()
        self._waiting: dict[int, threading.Event] = {}

    def connected(self, number: int) -> None:
        """The worker of a request has found its job."""
        if event := self._waiting.get(number):  # nobody waits any more for one that took too long
            event.set()

    def StartWorker(self, request: Any, _context: grpc.ServicerContext) -> Any:  # noqa: N802 - gRPC's name
        code = request.params.get(CODE, self._code)
        if code != self._code:
            said = f"{OTHER_CODE}: {self._code} and {code}"
            _LOG.error(said)
            return beam_fn_api_pb2.StartWorkerResponse(error=said)
        number, connected = next(self._numbers), threading.Event()
        self._waiting[number] = connected
        worker = {
            "number": number,
            "id": request.worker_id,
            "control": request.control_endpoint.url,
            "logging": request.logging_endpoint.url,
            "provision": request.provision_endpoint.url,
        }
        with self._lock:
            self._pipe.send(worker)
        # Who asks waits for the worker without end once this is answered; a pool that is ended before is noticed.
        started = connected.wait(_SECONDS)
        del self._waiting[number]
        return beam_fn_api_pb2.StartWorkerResponse(error="" if started else NOT_STARTED)

    def StopWorker(self, _request: Any, _context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Does nothing: a worker ends when its job hangs up, and another job's worker may have the same name."""
        return beam_fn_api_pb2.StopWorkerResponse()


def _work(request: dict[str, Any], connected: int) -> None:
    """A worker, as Beam's container starts one, until the job ends; `connected` is of `_ConnectedInterceptor`."""
    from apache_beam.runners.worker import sdk_worker_main

    environment = {"WORKER_ID": request["id"], "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(request["control"])}
    if request["logging"]:
        environment["LOGGING_API_SERVICE_DESCRIPTOR"] = _descriptor(request["logging"])
    if request["provision"]:
        environment["PIPELINE_OPTIONS"] = json.dumps(_pipeline_options(request))
    _, harness, _ = sdk_worker_main.create_harness(environment)
    told = _ConnectedInterceptor(request["number"], connected)
    harness._control_channel = grpc.intercept_channel(harness._control_channel, told)
    harness.run()


class _ConnectedInterceptor(grpc.StreamStreamClientInterceptor):  # type: ignore[misc]
    """Says that the worker of a request has found its job, once the job's control stream is open and not before.

    Flink waits without end for a worker that was said to have started and never opened it.
    """

    def __init__(self, number: int, connected: int) -> None:
        self._said = f"{number}\n".encode()
        self._connected = connected

    def intercept_stream_stream(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        stream = continuation(details, requests)
        os.write(self._connected, self._said)
        return stream


def _descriptor(url: str) -> str:
    return f"url: {json.dumps(url)}"


def _pipeline_options(request: dict[str, Any]) -> dict[str, Any]:
    """The job's, which hold what file systems need."""
    with grpc.insecure_channel(request["provision"]) as plain:
        channel = grpc.intercept_channel(plain, WorkerIdInterceptor(request["id"]))
        stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        found = stub.GetProvisionInfo(beam_provision_api_pb2.GetProvisionInfoRequest(), timeout=_SECONDS)
    options: dict[str, Any] = json_format.MessageToDict(found.info.pipeline_options)
    return options
