"""A Beam worker pool whose workers are forks of a process that has imported the stack.

    python -m pipeline beam-worker-pool --port 50000

Flink and Spark ask the pool of their node for new workers in every job. Beam's own pool starts a Python for each, which
imports TensorFlow and TFX for ten to thirty seconds of a core before it does anything; a fork starts at once, and
shares what was imported with the others.

Three kinds of processes: the one that is forked from, in which neither gRPC nor TensorFlow ever runs, since their
threads do not survive a fork; the server that the cluster asks; and the workers. All end with the first.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NoReturn

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
"""The parameter of a request for a worker that names the code which the job was made by (`project_hash`)."""

OTHER_CODE = "the worker pool has another version of this project than the pipeline"
"""What a pool answers whose code is not the job's."""

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

_LOG = logging.getLogger(__name__)
_SECONDS = 30.0


def serve(host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serves until the process is ended.

    Args:
        host: the address that is listened on; none is authenticated, so it should be the node's own alone.
        ready: gets a sentence when workers can be asked for.

    Raises:
        InputError: the address cannot be listened on.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _LOG.setLevel(logging.INFO)
    for module in STACK:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a collection in a worker would copy what it shares
    ours, servers = Pipe()
    parent = os.getpid()
    server = os.fork()
    if server == 0:
        end_with(parent)
        ours.close()
        _exit_after(_answer, host, port, servers)
    servers.close()
    try:
        if refused := ours.recv():
            raise InputError(refused)
    except EOFError:
        raise RuntimeError("the server of the worker pool did not start") from None
    ready(f"workers for Beam at {host}:{port}, this project's code {project_hash()}")
    _fork_on_request(ours)


def _fork_on_request(requests: Connection) -> None:
    """Forks a worker for each request, and kills it when it is told to."""
    workers: dict[str, int] = {}
    parent = os.getpid()
    while True:
        while requests.poll(1.0):
            try:
                order, request = requests.recv()
            except EOFError:
                raise RuntimeError("the server of the worker pool has ended") from None
            if order == "start":
                worker = os.fork()
                if worker == 0:
                    end_with(parent)
                    requests.close()
                    _exit_after(_work, request)
                workers[request["id"]] = worker
                _LOG.info("worker %s is process %d", request["id"], worker)
            elif request["id"] in workers:
                os.kill(workers.pop(request["id"]), signal.SIGTERM)
        while ended := os.waitpid(-1, os.WNOHANG)[0]:
            workers = {name: worker for name, worker in workers.items() if worker != ended}


def _exit_after(function: Callable[..., None], *arguments: Any) -> NoReturn:
    """Ends a fork without what the process that it was forked from would do at its end."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the first process, and so this one
    code = 1
    try:
        function(*arguments)
        code = 0
    except Exception:
        _LOG.exception("a process of the worker pool failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _answer(host: str, port: int, pipe: Connection) -> None:
    """The server: passes requests on."""
    server = grpc.server(ThreadPoolExecutor(), options=[("grpc.so_reuseport", 0)])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(_Servicer(pipe), server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        pipe.send(f"{host}:{port} cannot be listened on: is it in use? Give another port or host")
        return
    server.start()
    pipe.send("")
    server.wait_for_termination()


class _Servicer(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._code = project_hash()

    def StartWorker(self, request: Any, _context: grpc.ServicerContext) -> Any:  # noqa: N802 - gRPC's name
        code = request.params.get(CODE, self._code)
        if code != self._code:
            said = f"{OTHER_CODE}: {self._code} and {code}"
            _LOG.error(said)
            return beam_fn_api_pb2.StartWorkerResponse(error=said)
        worker = {
            "id": request.worker_id,
            "control": request.control_endpoint.url,
            "logging": request.logging_endpoint.url,
            "provision": request.provision_endpoint.url,
        }
        with self._lock:
            self._pipe.send(("start", worker))
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, _context: grpc.ServicerContext) -> Any:  # noqa: N802
        with self._lock:
            self._pipe.send(("stop", {"id": request.worker_id}))
        return beam_fn_api_pb2.StopWorkerResponse()


def _work(request: dict[str, str]) -> None:
    """A worker, as Beam's container starts one, until the job ends."""
    from apache_beam.runners.worker import sdk_worker_main

    environment = {"WORKER_ID": request["id"], "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(request["control"])}
    if request["logging"]:
        environment["LOGGING_API_SERVICE_DESCRIPTOR"] = _descriptor(request["logging"])
    if request["provision"]:
        environment["PIPELINE_OPTIONS"] = json.dumps(_pipeline_options(request))
    _, harness, _ = sdk_worker_main.create_harness(environment)
    harness.run()


def _descriptor(url: str) -> str:
    return f"url: {json.dumps(url)}"


def _pipeline_options(request: dict[str, str]) -> dict[str, Any]:
    """The job's, which hold what file systems need."""
    with grpc.insecure_channel(request["provision"]) as plain:
        channel = grpc.intercept_channel(plain, WorkerIdInterceptor(request["id"]))
        stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        found = stub.GetProvisionInfo(beam_provision_api_pb2.GetProvisionInfoRequest(), timeout=_SECONDS)
    options: dict[str, Any] = json_format.MessageToDict(found.info.pipeline_options)
    return options
