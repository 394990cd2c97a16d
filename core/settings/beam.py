"""The settings `runtime.beam`: where Apache Beam's steps run, as a named engine and a few settings.

    runtime: {beam: {engine: flink, flink_master: "flink:8081", job_server_jar: …, image: …, parallelism: 4}}

`pipeline.runners.beam_engines` turns them into Beam's pipeline options.
"""

import msgspec

from core.settings.checks import AtLeast1, FilePath, Positive, require


class _Engine(msgspec.Struct, frozen=True, kw_only=True, tag_field="engine"):
    """What all engines have; the tag of each is its name, by which msgspec tells them apart.

    Attributes:
        options: any of Beam's pipeline options, appended to ours; the later of two contradicting options wins. Write a
            secret as `${env:NAME}`, an environment variable of the process that runs the step.
    """

    options: tuple[str, ...] = ()


class LocalEngine(_Engine, frozen=True, kw_only=True, tag="local"):
    """In the stage's process, unless `options` name another runner. Memory use does not grow with the data."""


class LocalParallelEngine(_Engine, frozen=True, kw_only=True, tag="local-parallel"):
    """Steps that read and count run in `workers` processes; TensorFlow's run in the stage's process, on all cores.

    Beam's servers for these processes listen on all network interfaces, without authentication.
    """

    workers: AtLeast1 = 2


class PortableEngine(_Engine, frozen=True, kw_only=True):
    """What Flink and Spark share: a job server accepts the job, and Python workers run our code for the cluster.

    Attributes:
        job_server_jar: Beam's job server, built by `make beam-job-server`; a run starts it (this needs Java) and stops
            it after its last stage. Excludes `job_endpoint`.
        job_endpoint: `host:port` of a job server that is already running.
        image: the project's container image, which the cluster's nodes start with Docker (environment DOCKER).
        worker_pool: `host:port` of a Beam worker pool (`python -m pipeline beam-worker-pool`) as each node sees it,
            usually `localhost:50000` in a sidecar container (environment EXTERNAL). Without `image` and `worker_pool`,
            our code runs in the submitting process (LOOPBACK), and the cluster only moves data: enough for a test.
        timeout_hours: a step that takes longer fails. Beam's default of a minute also ends the streams that report a
            job's state, whatever its help says (`job_server_timeout` in its portable_runner.py).
    """

    job_server_jar: FilePath | None = None
    job_endpoint: str | None = None
    image: str | None = None
    worker_pool: str | None = None
    timeout_hours: Positive = 24.0

    def __post_init__(self) -> None:
        require(
            self.job_server_jar is None or self.job_endpoint is None,
            "job_server_jar starts a job server and job_endpoint names one that runs: give one of them",
        )
        require(
            self.image is None or self.worker_pool is None,
            "image has Docker start the workers and worker_pool names workers that run: give one of them",
        )


class FlinkEngine(PortableEngine, frozen=True, kw_only=True, tag="flink"):
    """An Apache Flink cluster.

    Attributes:
        flink_master: `host:port` of the JobManager's REST interface; `[local]` is a cluster inside the job server.
        parallelism: slots for reading and counting; the cluster's default if null.
        tensorflow_parallelism: slots for the steps that run TensorFlow; the number of machines is best.
    """

    flink_master: str = "[local]"
    parallelism: AtLeast1 | None = None
    tensorflow_parallelism: AtLeast1 | None = None


class SparkEngine(PortableEngine, frozen=True, kw_only=True, tag="spark"):
    """An Apache Spark 3 cluster.

    Attributes:
        spark_master_url: `spark://host:7077`; `local[4]` is a cluster inside the job server.
    """

    spark_master_url: str = "local[4]"


class DataflowEngine(_Engine, frozen=True, kw_only=True, tag="dataflow"):
    """Google Cloud Dataflow, which starts and stops the workers of each step.

    Attributes:
        project: the Google Cloud project that is billed.
        region: where the workers run.
        temp_location: a `gs://` folder for what Dataflow stages.
        image: the project's container image in a registry that the workers can read.
        machine_type: of the workers that read and count.
        tensorflow_machine_type: of the workers that run TensorFlow, with one Python process each.
        tensorflow_threads: threads of that process; each computes its own batch, so fewer threads need less memory.
        max_workers: the maximum number of machines in each step.
    """

    project: str
    region: str
    temp_location: str
    image: str
    machine_type: str = "n1-standard-2"
    tensorflow_machine_type: str = "n1-highmem-4"
    tensorflow_threads: AtLeast1 = 2
    max_workers: AtLeast1 = 10

    def __post_init__(self) -> None:
        require(
            self.temp_location.startswith("gs://"),
            f"temp_location is {self.temp_location!r}; it is a folder of Google Cloud Storage, gs://bucket/folder",
        )


BeamEngine = LocalEngine | LocalParallelEngine | FlinkEngine | SparkEngine | DataflowEngine
