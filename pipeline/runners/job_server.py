"""Beam's job server for Flink or Spark: a process on this machine that all jobs of a run share."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
)

from core.errors import InputError, MachineError
from core.processes import ending_with_this
from pipeline.runners.forks import Lock

CONNECT_SECONDS = 10.0
"""How long a cluster's master may take to accept a connection."""

_LOGGER = "org.slf4j.simpleLogger"  # for Flink's job server; Spark's logs the time anyway
_TAIL_BYTES = 200_000
_LOCAL = re.compile(r"\[(local|auto)\]|local(\[.+\])?")


class Spec(NamedTuple):
    """What a job server is started with.

    Attributes:
        jar: the one that `make beam-job-server` builds, or Beam's.
        master: the cluster's, or a name for one inside the job server.
        spark: whether it is for Spark; otherwise for Flink.
        java: the Java program.
        jvm_properties: Java's options.
    """

    jar: str
    master: str
    spark: bool
    java: str
    jvm_properties: tuple[str, ...]

    @classmethod
    def of(cls, options: PipelineOptions) -> Spec | None:
        """The spec in Beam's pipeline options; None if they name a running job server, or none at all."""
        flink, spark = options.view_as(FlinkRunnerOptions), options.view_as(SparkRunnerOptions)
        java = options.view_as(JobServerOptions)
        jar = flink.flink_job_server_jar or spark.spark_job_server_jar
        if not jar or options.view_as(PortableOptions).job_endpoint:
            return None
        is_spark = bool(spark.spark_job_server_jar)
        master = spark.spark_master_url if is_spark else flink.flink_master
        return cls(jar, master, is_spark, java.job_server_java_launcher, tuple(java.job_server_jvm_properties))

    @property
    def address(self) -> str | None:
        """`host:port` of the cluster's master; None if it is inside the job server."""
        return None if _LOCAL.fullmatch(self.master) else self.master.rpartition("://")[2].partition(",")[0].rstrip("/")

    @property
    def setting(self) -> str:
        """The pipeline option that names the master."""
        return "runtime.beam.spark_master_url" if self.spark else "runtime.beam.flink_master"

    def reach(self) -> str:
        """The address at which the cluster reaches this machine.

        Raises:
            InputError, MachineError: the master's address is invalid, or it cannot be reached.
        """
        if self.address is None:
            return "127.0.0.1"
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdecimal():
            raise InputError(f"{self.setting} is {self.master}: give host:port of the cluster's master")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS) as connection:
                address: str = connection.getsockname()[0]
                return address
        except OSError as error:
            raise MachineError(
                f"the cluster at {self.address} cannot be reached ({error}): is it running, and is {self.setting} its "
                "address?"
            ) from None


class JobServer:
    """A job server that ends when this process does.

    Attributes:
        endpoint: its address for this machine; it listens on all interfaces, whatever Beam's `--job-host` says.
        log: its log file.
    """

    def __init__(self, spec: Spec, log: Path) -> None:
        """Starts it, and does not wait until it listens.

        Raises:
            InputError, MachineError: there is no jar, no Java or no cluster.
        """
        if not Path(spec.jar).is_file():
            engine = "spark" if spec.spark else "flink"
            raise InputError(
                f"runtime.beam.job_server_jar: there is no {spec.jar}; `make beam-job-server ENGINE={engine}` makes one"
            )
        if shutil.which(spec.java) is None:
            raise InputError(
                f'runtime.beam.job_server_jar takes Java, and "{spec.java}" does not start: install it, such as with '
                '"apt-get install openjdk-17-jre-headless"'
            )
        here = spec.reach()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.endpoint = f"127.0.0.1:{port}"
        self.log = log
        self._artifacts = tempfile.mkdtemp(prefix="beam-job-server-")
        command = [spec.java, "-XX:TieredStopAtLevel=1"]  # too short-lived for C2 to pay off
        command += [f"-D{_LOGGER}.showDateTime=true", f"-D{_LOGGER}.dateTimeFormat=yyyy-MM-dd HH:mm:ss,SSS"]
        if spec.spark:
            master = ["--spark-master-url", spec.master]
        else:
            master = ["--flink-master", f"http://{spec.address}" if spec.address else spec.master]
        command += [*spec.jvm_properties, "-jar", spec.jar, *master, "--job-host=127.0.0.1", f"--job-port={port}"]
        command += ["--artifact-port=0", "--expansion-port=0", f"--artifacts-dir={self._artifacts}"]
        environment = os.environ | {"SPARK_LOCAL_IP": here}  # Spark's driver and its page would listen everywhere
        with log.open("wb") as output:
            self._process = subprocess.Popen(ending_with_this(command), stdout=output, stderr=output, env=environment)

    def runs(self) -> bool:
        """Whether it is running; works in forks of the process that started it, too."""
        try:
            os.kill(self._process.pid, 0)
        except ProcessLookupError:
            return False
        status = Path(f"/proc/{self._process.pid}/stat")  # it may be a zombie: ended, but not waited for yet
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"

    def said(self) -> str:
        """The end of its log."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            return log.read().decode(errors="replace")

    def last_words(self) -> str:
        """The line of its log that says why it ended, if there is one."""
        lines = [line for line in self.said().splitlines() if line.strip() and not line.startswith("\tat ")]
        return next(
            (line for line in reversed(lines) if "Exception" in line or "Error" in line), (lines or ["nothing"])[-1]
        )

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._artifacts, ignore_errors=True)


class Kept(NamedTuple):
    """What the jobs of a run share.

    Attributes:
        server: the job server; None if one runs elsewhere, or if none could be started: the first job says why.
        turn: held while a job runs. Two at the same time would wait for each other's slots, and Spark's job server
            runs one job at a time.
    """

    server: JobServer | None
    turn: Lock


_kept: dict[Spec | str, Kept] = {}  # inherited by forks of this process


@contextlib.contextmanager
def kept(options: Sequence[str], log: Path) -> Iterator[None]:
    """Makes all jobs with these pipeline options, in this process and its forks, share a job server and take turns."""
    target = _target(PipelineOptions(list(options)))
    if target is None:
        yield
        return
    server = None
    if isinstance(target, Spec):
        with contextlib.suppress(InputError, MachineError):
            server = JobServer(target, log)
    _kept[target] = Kept(server, Lock())
    try:
        yield
    finally:
        del _kept[target]
        if server:
            server.stop()


def find(options: PipelineOptions) -> Kept | None:
    """What jobs with these options share."""
    target = _target(options)
    return _kept.get(target) if target else None


def _target(options: PipelineOptions) -> Spec | str | None:
    endpoint: str | None = options.view_as(PortableOptions).job_endpoint
    return Spec.of(options) or endpoint
