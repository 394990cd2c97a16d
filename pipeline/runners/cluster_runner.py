"""A Beam runner for Flink and Spark that explains what is wrong with a cluster within a minute.

Beam's own runners wait for an unresponsive cluster as long as a job may take, pass on its stack traces, and have their
servers listen on all interfaces. `beam_engines` names this runner in Beam's options, and Beam imports it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import logging
import os
import re
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.portability import common_urns, python_urns
from apache_beam.portability.api import (
    beam_fn_api_pb2_grpc,
    beam_job_api_pb2,
    beam_job_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
)
from apache_beam.runners.portability import portable_runner
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

from core.errors import InputError, MachineError
from pipeline.code_hash import project_hash
from pipeline.runners.job_server import JobServer, Spec, find
from pipeline.runners.worker_pool import CODE, NOT_STARTED, OTHER_CODE

PAGE = "docs/beam-engines.md"
CONNECT_SECONDS = 20.0
"""How long a server may take to accept a connection."""

STALL_SECONDS = 35.0
"""How long a cluster may be unreachable, or give a job nothing to run on; less than Flink's slot.request.timeout, after
which it tries again."""

_LOG = logging.getLogger(__name__)
_WATCH_SECONDS = 5.0
_UNFINISHED = ("INITIALIZING", "CREATED", "RUNNING", "RESTARTING")  # of a Flink job
_START_SECONDS = 120.0


class ClusterRunner(portable_runner.PortableRunner):
    """Like Beam's FlinkRunner and SparkRunner or, with a job endpoint, its PortableRunner."""

    def run_portable_pipeline(
        self, pipeline: beam_runner_api_pb2.Pipeline, options: PipelineOptions
    ) -> portable_runner.PipelineResult:
        """Submits the job.

        Raises:
            InputError, MachineError: as of `Cluster.explain`, or nothing answers.
        """
        options.view_as(StandardOptions).runner = None  # of ours, no job server has a class
        named = options.view_as(GoogleCloudOptions)
        named.job_name = named.job_name or f"beam-{uuid.uuid4().hex[:12]}"
        cluster = Cluster(options, named.job_name)
        _name_the_code(pipeline)
        cleanup = self.start_and_replace_loopback_environments(pipeline, options)
        try:
            handle = portable_runner.JobServiceHandle(cluster.connect(), options)
            job_id, messages, states = handle.submit(self._optimize_pipeline(pipeline, options))
        except Exception as error:
            for clean in (*cleanup, cluster.close):
                clean()
            raise cluster.explain(error) from error
        return _Result(cluster, handle.job_service, job_id, _until_lost(messages), states, cleanup)

    @staticmethod
    def start_and_replace_loopback_environments(
        pipeline: beam_runner_api_pb2.Pipeline, options: PipelineOptions
    ) -> list[Callable[[], Any]]:
        """As Beam's, whose server listens on all interfaces, though it tells the cluster that it is at localhost."""
        cleanup: list[Callable[[], Any]] = []
        for environment in pipeline.components.environments.values():
            if environment.urn != python_urns.EMBEDDED_PYTHON_LOOPBACK:
                continue
            server = grpc.server(ThreadPoolExecutor())
            port = server.add_insecure_port("127.0.0.1:0")
            servicer = BeamFnExternalWorkerPoolServicer(data_buffer_time_limit_ms=-1)
            beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(servicer, server)
            server.start()
            here = endpoints_pb2.ApiServiceDescriptor(url=f"127.0.0.1:{port}")
            environment.urn = common_urns.environments.EXTERNAL.urn
            environment.payload = beam_runner_api_pb2.ExternalPayload(endpoint=here).SerializeToString()
            cleanup.append(functools.partial(server.stop, 1))
        return cleanup


def _until_lost(messages: Iterable[Any]) -> Iterator[Any]:
    """The messages of a job until the connection is lost, which also ends the stream of its states.

    `explain` reports errors; Beam would print them with Java's entire stack traces.
    """
    with contextlib.suppress(grpc.RpcError):
        for message in messages:
            if message.HasField("message_response"):
                message.message_response.importance = beam_job_api_pb2.JobMessage.JOB_MESSAGE_BASIC
            yield message


def _name_the_code(pipeline: beam_runner_api_pb2.Pipeline) -> None:
    """Makes worker pools compare their code with this process's, since pickled objects are looked up by name there."""
    for environment in pipeline.components.environments.values():
        if environment.urn == common_urns.environments.EXTERNAL.urn:
            payload = beam_runner_api_pb2.ExternalPayload.FromString(environment.payload)
            payload.params[CODE] = project_hash()
            environment.payload = payload.SerializeToString()


class _Result(portable_runner.PipelineResult):
    """The result of a job that is watched while it runs."""

    def __init__(self, cluster: Cluster, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._cluster = cluster

    def wait_until_finish(self, duration: int | None = None) -> str:
        """As Beam's; a job that this process does not wait for any longer, since it is ended, is cancelled.

        Raises:
            InputError, MachineError: as of `Cluster.explain`.
        """
        watch = self._cluster.watch(self._job_service, self._job_id)
        failed = True
        try:
            state: str = super().wait_until_finish(duration)
            failed = False
        except grpc.RpcError as error:
            self._cluster.cancel_on_flink()
            raise self._cluster.explain(error) from error
        except Exception as error:
            said = [m.message_response.message_text for m in self._messages if m.HasField("message_response")]
            raise self._cluster.explain(error, "\n".join(said)) from error
        except BaseException:
            self._cluster.cancel(self._job_service, self._job_id)
            raise
        finally:
            watch.set()
            if not failed:
                self.metrics()  # while the job server runs
            self._cluster.close(failed)
        return state


class _Fault(NamedTuple):
    """A cluster's message for a fault, and ours: the cause, and what to do."""

    pattern: str
    message: str
    error: type[Exception] = MachineError


_NO_EXECUTOR = "has not accepted any resources"  # Spark's scheduler, every 15 s
_NO_POOL = (
    "the cluster could not get Python workers: start a worker pool on each of its nodes, at the address of "
    "runtime.beam.worker_pool"
)
_FAULTS = (
    _Fault(
        OTHER_CODE,
        f"{OTHER_CODE}, so it could compute something else: install the pipeline's version where the cluster's workers "
        "run, and start their pool again (runtime.beam.worker_pool)",
        InputError,
    ),
    _Fault(
        r"No module named '(core|components|trainer|pipeline)\b",
        "the cluster's workers do not have this project: start them with `python -m pipeline beam-worker-pool` in its "
        "environment, or from its image (runtime.beam.worker_pool, runtime.beam.image)",
        InputError,
    ),
    _Fault(
        r"No module named '|ModuleNotFoundError",
        "the cluster's workers lack a package of this environment: start them with `python -m pipeline "
        "beam-worker-pool` in it, or from its image (runtime.beam.worker_pool, runtime.beam.image)",
        InputError,
    ),
    _Fault(
        r"Insufficient number of network buffers",
        "the Flink cluster has too few network buffers for this job: set taskmanager.memory.network.max and "
        f"taskmanager.network.sort-shuffle.min-buffers as the flink-conf.yaml of {PAGE} does",
    ),
    _Fault(
        r"NoResourceAvailableException|Could not acquire the minimum required resources",
        "the Flink cluster has no free slots for this job: wait until other jobs have ended, lower "
        "runtime.beam.parallelism and runtime.beam.tensorflow_parallelism, or start more TaskManagers",
    ),
    _Fault(
        _NO_EXECUTOR,
        "the Spark cluster gives this job no executor: wait until other applications have ended, start more workers, "
        "or lower spark.executor.memory and spark.cores.max where the job server runs (runtime.beam.spark_master_url)",
    ),
    _Fault(
        r"OutOfMemoryError: Metaspace",
        f"a TaskManager ran out of metaspace: set taskmanager.memory.jvm-metaspace.size as {PAGE} does, and restart it",
    ),
    _Fault(
        r"OutOfMemoryError",
        f"Java ran out of memory on the cluster: give TaskManagers or executors more, as {PAGE} does",
    ),
    _Fault(
        rf"{NOT_STARTED}|Failed to start worker|Timed out while waiting for worker",
        _NO_POOL,
    ),
    _Fault(
        r"heartbeat of TaskManager|Connection unexpectedly closed by remote task manager|assigned slot \S+ was removed|"
        r"TaskManager with id \S+ is no longer reachable|ExecutorLostFailure|Lost executor",
        "a machine of the cluster was lost while the job ran, and the job was not started again: see whether it is "
        f"there, and set restart-strategy as the flink-conf.yaml of {PAGE} does",
    ),
    _Fault(
        r"DuplexChannel|Transport closed|call already cancelled|control stream|Worker .* disconnected|"
        r"client disconnected|Stream removed|Socket closed|Connection reset",
        "the cluster lost a Python worker in the middle of the job: most likely, memory ran out on its node or its "
        "worker pool was ended (runtime.beam.worker_pool)",
    ),
)


_OURS = re.compile(r"core\.errors\.(InputError|MachineError): (.+?)(?= \[while running|\n\s*at |\n\n|\Z)", re.DOTALL)
"""An error of ours in the traceback of a worker."""


def _fault(said: str, where: str) -> Exception | None:
    """The error for a cluster's message, if it is known."""
    for fault in _FAULTS:
        if found := re.search(f".*(?:{fault.pattern}).*", said):
            return fault.error(f"{fault.message}. It said: {found[0].strip()[:300]}. {where}")
    return None


class Cluster:
    """The cluster in the options, and its job server."""

    def __init__(self, options: PipelineOptions, job_name: str) -> None:
        self._endpoint = options.view_as(PortableOptions).job_endpoint
        self._pool = options.view_as(PortableOptions).environment_config  # or the image
        self._spec = Spec.of(options)
        self._job_name = job_name
        self._kept = find(options)
        self._turn = contextlib.ExitStack()
        self._channel: grpc.Channel | None = None
        self._server: JobServer | None = None
        self._owned = False  # whether the job server is for this job alone
        self._stalled: str | None = None

    def connect(self) -> beam_job_api_pb2_grpc.JobServiceStub:
        """Starts the job server, if none runs.

        Raises:
            InputError, MachineError: there is none that answers.
        """
        if self._kept:
            self._turn.enter_context(self._kept.turn)
        kept = self._kept.server if self._kept else None
        self._server = kept if kept and kept.runs() else self._start()
        endpoint = self._server.endpoint if self._server else self._endpoint
        self._channel = grpc.insecure_channel(
            endpoint, [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )
        ready = grpc.channel_ready_future(self._channel)
        until = time.monotonic() + (_START_SECONDS if self._server else CONNECT_SECONDS)
        while True:
            try:
                ready.result(timeout=0.5)
                return beam_job_api_pb2_grpc.JobServiceStub(self._channel)
            except grpc.FutureTimeoutError:
                if time.monotonic() < until and (self._server is None or self._server.runs()):
                    continue
            if self._server:
                raise MachineError(
                    f"the job server of runtime.beam.job_server_jar did not start: {self._server.last_words()}. Its "
                    f"log: {self._server.log}"
                )
            raise MachineError(
                f"no job server answers at {self._endpoint}: start one there, or name another in "
                f"runtime.beam.job_endpoint ({PAGE})"
            )

    def _start(self) -> JobServer | None:
        if self._endpoint:
            return None
        if self._spec is None:
            raise InputError(
                "runtime.beam names no job server: give job_server_jar, which `make beam-job-server` makes, or "
                f"job_endpoint ({PAGE})"
            )
        descriptor, log = tempfile.mkstemp(prefix="beam-job-server-", suffix=".log")
        os.close(descriptor)
        server = JobServer(self._spec, Path(log))
        self._owned = True
        atexit.register(self.close)
        return server

    def watch(self, service: beam_job_api_pb2_grpc.JobServiceStub, job_id: str) -> threading.Event:
        """Closes the connection, which ends the job's wait, once the cluster has stalled; until the event is set."""
        done = threading.Event()
        threading.Thread(target=self._watch, args=(service, job_id, done), daemon=True).start()
        return done

    def _watch(self, service: beam_job_api_pb2_grpc.JobServiceStub, job_id: str, done: threading.Event) -> None:
        since: dict[str, float] = {}
        while not done.wait(_WATCH_SECONDS):
            stall = self._look(service, job_id)
            now = time.monotonic()
            since = {stall: since.get(stall, now)} if stall else {}
            if stall and now - since[stall] >= STALL_SECONDS and not done.is_set():
                self._stalled = stall
                self.cancel(service, job_id)
                if self._channel:
                    self._channel.close()
                return

    @staticmethod
    def cancel(service: beam_job_api_pb2_grpc.JobServiceStub, job_id: str) -> None:
        """Has the cluster end the job."""
        try:
            service.Cancel(beam_job_api_pb2.CancelJobRequest(job_id=job_id), timeout=_WATCH_SECONDS)
        except (grpc.RpcError, ValueError):  # the second: the connection is closed
            _LOG.warning("the job could not be cancelled")

    def cancel_on_flink(self) -> None:
        """Has Flink end the job without its job server: it would go on, and write what nobody waits for any more."""
        if self._spec is None or self._spec.spark or self._spec.address is None:
            return
        try:
            for job in self._jobs():
                address = f"http://{self._spec.address}/jobs/{job['jid']}"
                urllib.request.urlopen(urllib.request.Request(address, method="PATCH"), timeout=CONNECT_SECONDS).close()
        except (OSError, ValueError, KeyError):
            _LOG.warning("the job %s may still run on the cluster", self._job_name)

    def _look(self, service: beam_job_api_pb2_grpc.JobServiceStub, job_id: str) -> str | None:
        """What keeps the job from going on now, if anything does."""
        try:
            service.GetState(beam_job_api_pb2.GetJobStateRequest(job_id=job_id), timeout=CONNECT_SECONDS)
        except grpc.RpcError:
            return "the job server does not answer any more: start it again (runtime.beam.job_endpoint)"
        except ValueError:  # the connection was closed
            return None
        if self._spec is None or self._spec.address is None or self._server is None:
            return None
        if self._spec.spark:
            said = self._server.said()
            began = max(said.rfind(sign) for sign in ("Registered executor", "Starting task"))
            return _NO_EXECUTOR if said.rfind(_NO_EXECUTOR) > began else None
        try:
            waits = any(not _active(job["tasks"]) for job in self._jobs())
        except (OSError, ValueError, KeyError):
            return self._no_master()
        return "NoResourceAvailableException" if waits else None

    def _jobs(self) -> list[dict[str, Any]]:
        """What Flink says of this job, as long as it is unfinished."""
        every = self._ask_flink("jobs/overview")["jobs"]
        return [job for job in every if job["name"] == self._job_name and job["state"] in _UNFINISHED]

    def _ask_flink(self, path: str) -> Any:
        assert self._spec
        with urllib.request.urlopen(f"http://{self._spec.address}/{path}", timeout=CONNECT_SECONDS) as answer:
            return json.loads(answer.read())

    def explain(self, error: Exception, messages: str = "") -> Exception:
        """The error to raise for one that ended a job, of which the job server sent `messages`.

        An error that our code raised in a worker is the one that it would be in this process.
        """
        if isinstance(error, (InputError, MachineError)):
            return error
        if self._stalled:
            return _fault(self._stalled, self._where()) or MachineError(f"{self._stalled}. {self._where()}")
        if isinstance(error, grpc.RpcError):
            return MachineError(
                "the job server ended in the middle of the job, or cannot be reached any more: run again, and if it "
                f"was started by hand, start it again (runtime.beam.job_endpoint). {self._where()}"
            )
        said = f"{error}\n{messages}"
        if ours := _OURS.search(said):
            return (InputError if ours[1] == "InputError" else MachineError)(ours[2].strip())
        for address, message in ((self._pool, _NO_POOL), (self._spec and self._spec.address, self._no_master())):
            if address and re.search(rf"Connection refused: \S*:{address.rpartition(':')[2]}\b", said):
                return MachineError(f"{message}. {self._where()}")
        return _fault(said, self._where()) or RuntimeError(f"the cluster could not do the job: {said}\n{self._where()}")

    def _no_master(self) -> str:
        return (
            f"the cluster at {self._spec.address} cannot be reached any more ({self._spec.setting})"
            if self._spec
            else ""
        )

    def _where(self) -> str:
        """Where more is said."""
        places = [f"the job server's {self._server.log}" if self._server else f"the job server's, at {self._endpoint}"]
        if self._spec and self._spec.address:
            spark = "Spark's in work/ of each worker"
            places.append(
                spark if self._spec.spark else f"Flink's at http://{self._spec.address}, job {self._job_name}"
            )
        return f"Logs: {'; '.join(places)}; the Python workers' where their pool runs"

    def close(self, failed: bool = True) -> None:
        """Ends what `connect` started; the log of a job that failed stays."""
        if self._channel:
            self._channel.close()
        if self._owned and self._server:
            self._owned = False
            self._server.stop()
            if not failed:
                self._server.log.unlink(missing_ok=True)
        self._turn.close()
        atexit.unregister(self.close)


def _active(tasks: dict[str, int]) -> bool:
    """Whether a Flink job has tasks that are running or about to."""
    return any(tasks.get(state) for state in ("deploying", "initializing", "running"))
