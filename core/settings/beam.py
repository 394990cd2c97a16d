"""The settings `runtime.beam`: where Apache Beam's steps run, as a named engine and a few settings.

    runtime: {beam: {engine: flink, flink_master: "flink:8081", job_server_jar: …, image: …, parallelism: 4}}

`pipeline.runners.beam_engines` turns them into Beam's pipeline options.
"""

import msgspec

from core.settings.checks import AtLeast1, FilePath, Positive, require


class _Engine(msgspec.Struct, frozen=True, kw_only=True, tag_field="engine"):
    """What all engines have; the tag of each is its name, by which msgspec tells them from each other.

    Attributes:
        options: any of Beam's pipeline options, after ours; of two that contradict, Beam takes the later. A secret is
            `${env:NAME}`, an environment variable of the process that runs the step.
    """

    options: tuple[str, ...] = ()


class LocalEngine(_Engine, frozen=True, kw_only=True, tag="local"):
    """In the stage's process, unless `options` name another runner. Memory does not grow with the data; time does."""


class LocalParallelEngine(_Engine, frozen=True, kw_only=True, tag="local-parallel"):
    """Steps that read and count in `workers` processes of this machine; TensorFlow's in the stage's, with all cores.

    Beam's servers for these processes listen on all interfaces of the machine, without authentication.
    """

    workers: AtLeast1 = 2


class PortableEngine(_Engine, frozen=True, kw_only=True):
    """What Flink and Spark share: a job server takes the job, Python workers run our code for the cluster.

    Attributes:
        job_server_jar: Beam's job server, which `make beam-job-server` makes; a run starts it (which takes Java), and
            ends it with its last stage. Not with `job_endpoint`.
        job_endpoint: `host:port` of a job server that runs already.
        image: the project's container image, which the cluster's nodes start with Docker (environment DOCKER).
        worker_pool: `host:port` of a Beam worker pool (`python -m pipeline beam-worker-pool`) as each node sees it,
            usually `localhost:50000` of a side-car container (environment EXTERNAL). With neither, our code runs in the
            submitting process (LOOPBACK): a cluster then does no more than move the data, which shows that things work.
        timeout_hours: a step that takes longer fails. Beam's own limit is a minute: whatever its help says, it also
            ends the streams over which a job tells its state (`job_server_timeout` in its portable_runner.py).
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
        parallelism: slots that reading and counting are spread over; the cluster's default if null.
        tensorflow_parallelism: the same of the steps that run TensorFlow: as many as there are machines.
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
        tensorflow_machine_type: of those that run TensorFlow; one Python process on each.
        tensorflow_threads: of that process; each computes a batch of its own, which bounds the memory.
        max_workers: at most so many machines at a time in each step.
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
