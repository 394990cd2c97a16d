"""What is wrong with a cluster is said in words, with the setting and where the logs are."""

import socket
import time
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from core.errors import InputError, MachineError
from core.settings.beam import FlinkEngine, PortableEngine, SparkEngine
from pipeline.runners import cluster_runner, job_server
from pipeline.runners.beam_engines import options_for

NO_RESOURCES = """org.apache.flink.runtime.JobException: Recovery is suppressed by NoRestartBackoffTimeStrategy
Caused by: org.apache.flink.runtime.jobmanager.scheduler.NoResourceAvailableException: Could not acquire the minimum"""
BUFFERS = "java.io.IOException: Insufficient number of network buffers: required 512, but only 127 available."
REFUSED = (
    "org.apache.beam.vendor.grpc.v1p60p1.io.grpc.StatusRuntimeException: UNAVAILABLE: io exception\n"
    "Caused by: Connection refused: localhost/127.0.0.1:50000"
)
NO_PACKAGE = "Traceback (most recent call last):\nModuleNotFoundError: No module named 'components'"
OTHER = "java.lang.Exception: the worker pool has another version of this project than the pipeline: a and b"
OURS = """Error received from SDK harness for instruction 4: Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1435, in process
core.errors.InputError: red.jpg has no label: name one [while running 'Read/Images']

\tat java.base/java.util.concurrent.CompletableFuture.reportGet(CompletableFuture.java:396)"""


@pytest.fixture
def jar(tmp_path: Path) -> str:
    """A job server that is none: it ends when it is started."""
    (tmp_path / "server.jar").write_bytes(b"")
    return str(tmp_path / "server.jar")


def closed_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def run(engine: PortableEngine) -> None:
    """A job."""
    with beam.Pipeline(options=PipelineOptions(options_for(engine, "Evaluator"))) as pipeline:
        _ = pipeline | beam.Create([1])


def test_an_endpoint_where_nothing_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster_runner.CONNECT_SECONDS <= 25  # the 30, with the time to start
    monkeypatch.setattr(cluster_runner, "CONNECT_SECONDS", 1.0)
    port = closed_port()
    began = time.monotonic()
    with pytest.raises(
        MachineError, match=rf"no job server answers at 127\.0\.0\.1:{port}.*runtime\.beam\.job_endpoint"
    ):
        run(FlinkEngine(job_endpoint=f"127.0.0.1:{port}"))
    assert time.monotonic() - began < 10


def test_an_endpoint_that_accepts_and_says_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_runner, "CONNECT_SECONDS", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(MachineError, match="no job server answers"):
            run(FlinkEngine(job_endpoint=f"127.0.0.1:{silent.getsockname()[1]}"))


@pytest.mark.parametrize(
    ("engine", "setting"),
    [
        (lambda jar, port: FlinkEngine(job_server_jar=jar, flink_master=f"127.0.0.1:{port}"), "flink_master"),
        (
            lambda jar, port: SparkEngine(job_server_jar=jar, spark_master_url=f"spark://127.0.0.1:{port}"),
            "spark_master_url",
        ),
    ],
    ids=["flink", "spark"],
)
def test_a_master_that_cannot_be_reached_is_told(engine: object, setting: str, jar: str) -> None:
    port = closed_port()
    with pytest.raises(
        MachineError, match=rf"the cluster at 127\.0\.0\.1:{port} cannot be reached.*runtime\.beam\.{setting}"
    ):
        run(engine(jar, port))  # type: ignore[operator]


def test_a_master_that_is_no_address_is_a_setting(jar: str) -> None:
    with pytest.raises(InputError, match=r"runtime\.beam\.flink_master is flink-jobmanager: give host:port"):
        run(FlinkEngine(job_server_jar=jar, flink_master="flink-jobmanager"))


def test_no_job_server_at_all_and_no_jar_name_make(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"job_server_jar, which `make beam-job-server` makes, or job_endpoint"):
        run(FlinkEngine())
    with pytest.raises(InputError, match=r"there is no .*gone\.jar; `make beam-job-server ENGINE=spark` makes one"):
        run(SparkEngine(job_server_jar=str(tmp_path / "gone.jar")))


def test_without_java_it_is_named(jar: str) -> None:
    engine = FlinkEngine(job_server_jar=jar, options=("--job_server_java_launcher=java-that-is-not-there",))
    with pytest.raises(InputError, match='takes Java, and "java-that-is-not-there" does not start'):
        run(engine)


def test_a_job_server_that_ends_at_once_is_told_with_its_last_words(jar: str, tmp_path: Path) -> None:
    (tmp_path / "java").write_text("#!/bin/sh\necho 'Error: Unable to access jarfile'\nexit 1\n")
    (tmp_path / "java").chmod(0o755)
    engine = FlinkEngine(job_server_jar=jar, options=(f"--job_server_java_launcher={tmp_path / 'java'}",))
    with pytest.raises(MachineError, match=r"did not start: Error: Unable to access jarfile\. Its log: .*\.log"):
        run(engine)


def test_a_kept_job_server_ends_with_the_run_and_sparks_driver_listens_on_this_machine_alone(
    jar: str, tmp_path: Path
) -> None:
    (tmp_path / "java").write_text('#!/bin/sh\necho "$@" "Spark at $SPARK_LOCAL_IP"\nexec sleep 100\n')
    (tmp_path / "java").chmod(0o755)
    options = options_for(
        SparkEngine(job_server_jar=jar, options=(f"--job_server_java_launcher={tmp_path / 'java'}",)), "Evaluator"
    )
    log = tmp_path / "log"
    with job_server.kept(options, log):
        shared = job_server.find(PipelineOptions(options))
        assert shared and (server := shared.server)
        assert server.runs() and server.endpoint.startswith("127.0.0.1:")
        while not (said := log.read_text()):
            time.sleep(0.05)
        assert "--job-host=127.0.0.1" in said and "Spark at 127.0.0.1" in said
    assert job_server.find(PipelineOptions(options)) is None and not server.runs()


def test_a_jobmanager_that_refuses_is_not_taken_for_a_worker_pool(jar: str) -> None:
    engine = FlinkEngine(job_server_jar=jar, flink_master="jobs:8081", worker_pool="localhost:50000")
    cluster = cluster_runner.Cluster(PipelineOptions(options_for(engine, "Evaluator")), "job")
    said = "java.net.ConnectException: Connection refused: jobs/10.0.0.1:8081"
    with pytest.raises(MachineError, match=r"the cluster at jobs:8081 cannot .*runtime\.beam\.flink_master.*Logs: "):
        raise cluster.explain(RuntimeError(said))


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (NO_RESOURCES, MachineError, r"no free slots.*runtime\.beam\.parallelism.*NoResourceAvailableException"),
        (BUFFERS, MachineError, r"taskmanager\.network\.sort-shuffle\.min-buffers.*required 512"),
        (REFUSED, MachineError, r"Python workers: start a worker pool.*runtime\.beam\.worker_pool"),
        (NO_PACKAGE, InputError, r"workers do not have this project.*beam-worker-pool.*No module named 'components'"),
        (OTHER, InputError, r"another version of this project.*worker_pool.*a and b"),
        (OURS, InputError, r"^red\.jpg has no label: name one$"),
        ("java.lang.UnheardOf: something", RuntimeError, r"could not do the job: .*java\.lang\.UnheardOf: something"),
    ],
    ids=["slots", "buffers", "pool", "package", "version", "ours", "unknown"],
)
def test_what_a_cluster_says_becomes_the_cause_the_setting_and_the_logs(
    said: str, kind: type[Exception], words: str
) -> None:
    engine = FlinkEngine(job_endpoint="h:1", worker_pool="localhost:50000")
    cluster = cluster_runner.Cluster(PipelineOptions(options_for(engine, "Evaluator")), "job")
    error = cluster.explain(RuntimeError(f"Pipeline job failed in state FAILED: {said}"))
    assert type(error) is kind
    with pytest.raises(kind, match=f"(?s){words}"):
        raise error
    assert said is OURS or "Logs: the job server's, at h:1" in str(error)
