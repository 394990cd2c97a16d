"""Real Flink and Spark clusters on 127.0.0.1: two machines each, which are processes here, with a Beam worker pool.

Beam's and Spark's servers cannot all be told where to listen, so each is started in a network namespace of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from ruamel.yaml import YAML

from core.processes import ending_with_this
from core.settings.beam import FlinkEngine, SparkEngine
from supply_chain import job_server
from tests.conftest import ROOT

KEPT = ROOT / "build" / "clusters"
"""Where what is downloaded stays."""

FLINK_PORT, SPARK_PORT, POOL_PORT, JOB_PORT = 8081, 7077, 50000, 8099
SLOTS = 2
_QUICK = "-XX:TieredStopAtLevel=1"
"""Of Java: these processes live for minutes, and code that is compiled well pays later."""
_IMPATIENT = {"heartbeat.interval": 1000, "restart-strategy.fixed-delay.delay": "1 s"}
"""Of Flink: a TaskManager that refuses two heartbeats is lost."""
_PACKAGES = {"flink": "pyflink", "spark": "pyspark"}


class UnavailableError(Exception):
    """Something is missing on this machine that a cluster takes; the message says what."""


def obtain(engine: str) -> tuple[Path, Path]:
    """The job server's jar and the folder of the cluster's software, downloaded if need be.

    Raises:
        UnavailableError: the one or the other cannot be had.
    """
    jar = ROOT / "build" / f"{engine}-job-server.jar"
    if shutil.which("java") is None:
        raise UnavailableError("clusters take Java, and there is none")
    try:
        job_server.build(engine, jar)
    except job_server.BuildError as error:
        raise UnavailableError(str(error)) from error
    software = KEPT / engine
    if not software.exists():
        requirements = Path(__file__).with_name(f"{engine}.txt")
        partial = software.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        install = [ROOT / ".venv-uv/bin/uv", "pip", "install", "--quiet", "--python", sys.executable, "--no-deps"]
        command = [*install, "--require-hashes", "--target", partial, "-r", requirements]
        ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if ended.returncode:
            raise UnavailableError(f"PyPI gave no {engine}: {ended.stderr.strip().splitlines()[-1]}")
        partial.rename(software)
    return jar, software / _PACKAGES[engine]


class Process:
    """A process of a cluster, with its log."""

    def __init__(self, name: str, work: Path, command: Sequence[str | Path], environment: dict[str, str]) -> None:
        self.name = name
        self.log = work / f"{name}.log"
        self._command, self._environment = list(map(str, command)), os.environ | environment
        self.start()

    def start(self) -> None:
        """Starts it, again if it has been killed."""
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                ending_with_this(self._command), stdout=log, stderr=log, env=self._environment
            )

    def kill(self) -> None:
        """Kills it as a machine that fails does."""
        self._process.kill()
        self._process.wait()

    def ended(self) -> bool:
        """Whether it does not run."""
        return self._process.poll() is not None


class Cluster:
    """Processes by name: `pool`, and `jobmanager`, `taskmanager-1` … or `master`, `worker-1` …."""

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}

    def add(self, name: str, work: Path, command: Sequence[str | Path], **environment: str) -> None:
        """Starts a process of it."""
        self.processes[name] = Process(name, work, command, environment)

    def wait_until(self, ready: Callable[[], bool], seconds: float = 300) -> None:
        """Waits for the cluster.

        Raises:
            RuntimeError: a process of it ended, or it takes longer.
        """
        until = time.monotonic() + seconds
        while True:
            for process in self.processes.values():
                if process.ended() or time.monotonic() > until:
                    raise RuntimeError(f"{process.name}: {process.log.read_text()[-3000:]}")
            with contextlib.suppress(OSError):
                if ready():
                    return
            time.sleep(0.2)


@contextlib.contextmanager
def _cluster(work: Path) -> Iterator[Cluster]:
    work.mkdir(parents=True)
    cluster = Cluster()
    try:
        pool = [sys.executable, "-m", "pipeline", "beam-worker-pool", f"--port={POOL_PORT}"]
        cluster.add("pool", work, pool, PYTHONPATH=str(ROOT))
        yield cluster
    finally:
        for process in cluster.processes.values():
            process.kill()


def listens(port: int) -> bool:
    """Whether a server on 127.0.0.1 accepts a connection."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def flink_ready(task_managers: int) -> bool:
    """Whether so many are registered."""
    with urllib.request.urlopen(f"http://127.0.0.1:{FLINK_PORT}/overview", timeout=5) as answer:
        return bool(json.load(answer)["taskmanagers"] == task_managers)


@contextlib.contextmanager
def flink(work: Path, software: Path, task_managers: int = 2) -> Iterator[Cluster]:
    """A JobManager and TaskManagers, set as docs/beam-engines/flink-conf.yaml says, but for addresses and waits.

    Flink's own scripts, which start `java` with these arguments, are not in PyPI's package. The job server's jar is in
    lib/, too.
    """
    conf = work / "conf"
    jars = ":".join(map(str, [*sorted((software / "lib").glob("*.jar")), ROOT / "build" / "flink-job-server.jar"]))
    with _cluster(work) as cluster:
        conf.mkdir()
        given = ROOT.joinpath("docs/beam-engines/flink-conf.yaml").read_text()
        names = ("jobmanager.rpc.address", "jobmanager.bind-host", "taskmanager.host", "taskmanager.bind-host")
        here = "\n".join(f"{name}: 127.0.0.1" for name in (*names, "rest.address", "rest.bind-address"))
        quick = "\n".join(f"{name}: {value}" for name, value in _IMPATIENT.items())
        conf.joinpath("flink-conf.yaml").write_text(f"{given}\n{here}\n{quick}\nio.tmp.dirs: {work}\n")
        conf.joinpath("log4j.properties").write_text(
            "rootLogger.level = INFO\nrootLogger.appenderRef.c.ref = C\nappender.c.name = C\n"
            "appender.c.type = CONSOLE\nappender.c.layout.type = PatternLayout\n"
            "appender.c.layout.pattern = %d %-5p %c - %m%n\n"
        )
        options = YAML(typ="safe").load(given)["env.java.opts"].split()
        java = ["java", _QUICK, *options, f"-Dlog4j.configurationFile={conf / 'log4j.properties'}"]
        entry = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        heap, dynamic = _resources(software, jars, conf, "GET_JM_RESOURCE_PARAMS")
        cluster.add("jobmanager", work, [*java, *heap, "-cp", jars, entry, "--configDir", conf, *dynamic])
        entry = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        heap, dynamic = _resources(software, jars, conf, "GET_TM_RESOURCE_PARAMS")
        for number in range(1, task_managers + 1):
            command = [*java, *heap, "-cp", jars, entry, "--configDir", conf, *dynamic]
            cluster.add(f"taskmanager-{number}", work, command)

        cluster.wait_until(lambda: flink_ready(task_managers) and listens(POOL_PORT))
        yield cluster


def _resources(software: Path, jars: str, conf: Path, asked: str) -> tuple[list[str], list[str]]:
    """What Flink's scripts make of the memory in a configuration: Java's options, and Flink's."""
    utilities = f"{software / 'bin/bash-java-utils.jar'}:{jars}"
    command = [
        "java",
        "-cp",
        utilities,
        "org.apache.flink.runtime.util.bash.BashJavaUtils",
        asked,
        "--configDir",
        str(conf),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    prefix = "BASH_JAVA_UTILS_EXEC_RESULT:"
    heap, dynamic = (line.removeprefix(prefix) for line in said.splitlines() if line.startswith(prefix))
    return heap.split(), dynamic.split()


@contextlib.contextmanager
def spark(work: Path, software: Path, workers: int = 2) -> Iterator[Cluster]:
    """A master and workers."""
    with _cluster(work) as cluster:
        start = software / "bin" / "spark-class"
        environment = {"SPARK_HOME": str(software), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "512m"}
        environment["SPARK_DAEMON_JAVA_OPTS"] = _QUICK
        master = ["org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", str(SPARK_PORT)]
        cluster.add("master", work, [start, *master, "--webui-port", "8080"], **environment)
        cluster.wait_until(lambda: listens(SPARK_PORT))
        for number in range(1, workers + 1):
            worker = ["org.apache.spark.deploy.worker.Worker", f"spark://127.0.0.1:{SPARK_PORT}", "--host", "127.0.0.1"]
            worker += ["--cores", str(SLOTS), "--memory", "2g", "--work-dir", str(work / f"worker-{number}")]
            cluster.add(f"worker-{number}", work, [start, *worker, "--webui-port", str(8090 + number)], **environment)

        def ready() -> bool:
            registered = cluster.processes["master"].log.read_text().count("Registering worker")
            return registered == workers and listens(POOL_PORT)

        cluster.wait_until(ready)
        yield cluster


def engine(name: str) -> FlinkEngine | SparkEngine:
    """The settings of a run on the cluster of that name."""
    jar = str(ROOT / "build" / f"{name}-job-server.jar")
    pool = f"127.0.0.1:{POOL_PORT}"
    if name == "spark":
        return SparkEngine(
            spark_master_url=f"spark://127.0.0.1:{SPARK_PORT}",
            job_server_jar=jar,
            worker_pool=pool,
            options=(f"--job_server_jvm_properties=-Dspark.executor.extraJavaOptions={_QUICK}",),
        )
    return FlinkEngine(
        flink_master=f"127.0.0.1:{FLINK_PORT}",
        job_server_jar=jar,
        worker_pool=pool,
        parallelism=SLOTS,
        tensorflow_parallelism=SLOTS,
    )


def with_job_server(name: str, cluster: Cluster, work: Path, software: Path) -> FlinkEngine | SparkEngine:
    """Starts the job server as docs/beam-engines.md says; returns the settings of a run on it."""
    page = (ROOT / "docs" / "beam-engines.md").read_text()
    (command,) = re.findall(rf"```\n([^`]*build/{name}-job-server\.jar[^`]*--job-host[^`]*)```", page)
    for there, here in (("//flink-jobmanager", "//127.0.0.1"), ("//spark-master", "//127.0.0.1")):
        command = command.replace(there, here)
    started = ["sh", "-c", f"cd {ROOT} && exec env {command}"]
    cluster.add("job-server", work, started, PATH=f"{software / 'bin'}:{os.environ['PATH']}", SPARK_HOME=str(software))
    cluster.wait_until(lambda: listens(JOB_PORT))
    return msgspec.structs.replace(engine(name), job_server_jar=None, job_endpoint=f"127.0.0.1:{JOB_PORT}")


CLUSTERS = {"flink": flink, "spark": spark}


def main() -> None:
    """`python -m tests.ports.clusters flink WORK`: a cluster to try things on, until Ctrl-C."""
    engine, work = sys.argv[1], Path(sys.argv[2])
    with CLUSTERS[engine](work, KEPT / engine / _PACKAGES[engine]):
        print("ready", flush=True)
        time.sleep(1e6)


if __name__ == "__main__":
    main()
