"""Where Apache Beam's steps run: a named engine and a few settings, turned into Beam's pipeline options.

    runtime: {beam: {engine: flink, flink_master: "flink:8081", job_server_jar: …, image: …, parallelism: 4}}

Two kinds of steps want different workers. Those that run TensorFlow graphs want few large ones, with one Python process
each: a process holds the network once, shares it between its threads, and TensorFlow uses all cores from there. Those
that read files or count want many small ones, with a Python process per core.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any, ClassVar

import cattrs

from core.settings.training import require

SMALL_STEPS = frozenset({"ImageExampleGen", "StatisticsGen"})
"""Ids of the Beam components that run no TensorFlow graph. Any other is given the large workers."""

SEND_NOTHING = "--sdk_container_image={}"
"""Beam's option that names the workers' image. Without it TFX packs its own source for them, as an sdist, in every step
that has any Beam option at all (tfx/utils/dependency_utils.py). Workers of ours have the whole locked environment."""

_THIS_ENVIRONMENT = "workers-have-the-environment"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeamEngine:
    """What all engines have.

    Attributes:
        options: any of Beam's pipeline options, after ours; of two that contradict, Beam takes the later.
    """

    name: ClassVar[str]
    """The value of `runtime.beam.engine`."""

    options: tuple[str, ...] = ()

    def options_for(self, component_id: str) -> list[str]:
        """All of Beam's pipeline options for one component."""
        own = self.small_step_options() if component_id in SMALL_STEPS else self.large_step_options()
        return [*self.shared_options(), *own, *self.options]

    def shared_options(self) -> list[str]:
        """Those of all steps."""
        return []

    def small_step_options(self) -> list[str]:
        """Those of steps that read and count."""
        return []

    def large_step_options(self) -> list[str]:
        """Those of steps that run TensorFlow graphs."""
        return []


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalEngine(BeamEngine):
    """In this process, unless `options` name another runner. Memory does not grow with the data: time is the bound."""

    name = "local"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalParallelEngine(BeamEngine):
    """Steps that read and count in `workers` processes of this machine; TensorFlow's in this one, with all cores.

    Beam's servers for these processes listen on all interfaces of the machine, without authentication.
    """

    name = "local-parallel"

    workers: int = 2

    def __post_init__(self) -> None:
        require(self.workers >= 1, "workers must be at least 1")

    def shared_options(self) -> list[str]:  # noqa: D102
        return ["--runner=DirectRunner", SEND_NOTHING.format(_THIS_ENVIRONMENT)]

    def small_step_options(self) -> list[str]:  # noqa: D102
        return ["--direct_running_mode=multi_processing", f"--direct_num_workers={self.workers}"]

    def large_step_options(self) -> list[str]:  # noqa: D102
        return ["--direct_running_mode=in_memory", "--direct_num_workers=1"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PortableEngine(BeamEngine):
    """What Flink and Spark share: a job server takes the job, Python workers run our code for the cluster.

    Attributes:
        job_server_jar: Beam's job server, started for the time of each job (needs Java); not with `job_endpoint`.
        job_endpoint: `host:port` of a job server that runs already.
        image: the project's container image, which the cluster's nodes start with Docker (environment DOCKER).
        worker_pool: `host:port` of a Beam worker pool as each node sees it, usually `localhost:50000` of a sidecar
            container (environment EXTERNAL). With neither, our code runs in the submitting process (LOOPBACK): a
            cluster then does no more than move the data, which shows that things work.
        timeout_hours: a step that takes longer fails. Beam's own limit is a minute: whatever its help says, it also
            ends the streams over which a job tells its state (`job_server_timeout` in its portable_runner.py).
    """

    job_server_jar: str | None = None
    job_endpoint: str | None = None
    image: str | None = None
    worker_pool: str | None = None
    timeout_hours: float = 24.0

    def __post_init__(self) -> None:
        require(
            self.job_server_jar is None or self.job_endpoint is None,
            "job_server_jar starts a job server and job_endpoint names one that runs: give one of them",
        )
        require(
            self.image is None or self.worker_pool is None,
            "image has Docker start the workers and worker_pool names workers that run: give one of them",
        )
        require(self.timeout_hours > 0, f"timeout_hours is {self.timeout_hours}; it must be positive")

    def shared_options(self) -> list[str]:  # noqa: D102
        if self.job_endpoint:
            runner = ["--runner=PortableRunner", f"--job_endpoint={self.job_endpoint}"]
        else:
            runner = self.own_runner()
        if self.image:
            where = ["--environment_type=DOCKER", f"--environment_config={self.image}"]
        elif self.worker_pool:
            where = ["--environment_type=EXTERNAL", f"--environment_config={self.worker_pool}"]
        else:
            where = ["--environment_type=LOOPBACK"]
        timeout = f"--job_server_timeout={round(self.timeout_hours * 3600)}"
        return [*runner, *where, timeout, SEND_NOTHING.format(self.image or _THIS_ENVIRONMENT)]

    def own_runner(self) -> list[str]:
        """The options of the runner that starts the job server itself."""
        raise NotImplementedError

    def small_step_options(self) -> list[str]:  # noqa: D102
        return ["--sdk_worker_parallelism=0"]  # the runner's choice: a process per core

    def large_step_options(self) -> list[str]:  # noqa: D102
        return ["--sdk_worker_parallelism=1"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlinkEngine(PortableEngine):
    """An Apache Flink cluster.

    Attributes:
        flink_master: `host:port` of the JobManager's REST interface; `[local]` is a cluster inside the job server.
        flink_version: for which the job server was built; major and minor.
        parallelism: slots that reading and counting are spread over; the cluster's default if null.
        tensorflow_parallelism: the same of the steps that run TensorFlow: as many as there are machines.
    """

    name = "flink"

    flink_master: str = "[local]"
    flink_version: str = "1.16"
    parallelism: int | None = None
    tensorflow_parallelism: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for number in (self.parallelism, self.tensorflow_parallelism):
            require(number is None or number >= 1, "parallelism and tensorflow_parallelism must be at least 1")

    def own_runner(self) -> list[str]:  # noqa: D102
        jar = [f"--flink_job_server_jar={self.job_server_jar}"] if self.job_server_jar else []
        return [
            "--runner=FlinkRunner",
            f"--flink_master={self.flink_master}",
            f"--flink_version={self.flink_version}",
            *jar,
        ]

    def small_step_options(self) -> list[str]:  # noqa: D102
        return [*super().small_step_options(), *_number("parallelism", self.parallelism)]

    def large_step_options(self) -> list[str]:  # noqa: D102
        return [*super().large_step_options(), *_number("parallelism", self.tensorflow_parallelism)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparkEngine(PortableEngine):
    """An Apache Spark 3 cluster.

    Attributes:
        spark_master_url: `spark://host:7077`; `local[4]` is a cluster inside the job server.
    """

    name = "spark"

    spark_master_url: str = "local[4]"

    def own_runner(self) -> list[str]:  # noqa: D102
        jar = [f"--spark_job_server_jar={self.job_server_jar}"] if self.job_server_jar else []
        return ["--runner=SparkRunner", f"--spark_master_url={self.spark_master_url}", "--spark_version=3", *jar]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataflowEngine(BeamEngine):
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

    name = "dataflow"

    project: str
    region: str
    temp_location: str
    image: str
    machine_type: str = "n1-standard-2"
    tensorflow_machine_type: str = "n1-highmem-4"
    tensorflow_threads: int = 2
    max_workers: int = 10

    def __post_init__(self) -> None:
        require(
            self.temp_location.startswith("gs://"),
            f"temp_location is {self.temp_location!r}; it is a folder of Google Cloud Storage, gs://bucket/folder",
        )
        require(
            self.tensorflow_threads >= 1 and self.max_workers >= 1,
            "tensorflow_threads and max_workers must be at least 1",
        )

    def shared_options(self) -> list[str]:  # noqa: D102
        return [
            "--runner=DataflowRunner",
            f"--project={self.project}",
            f"--region={self.region}",
            f"--temp_location={self.temp_location}",
            SEND_NOTHING.format(self.image),
            f"--max_num_workers={self.max_workers}",
            "--experiments=use_runner_v2",
        ]

    def small_step_options(self) -> list[str]:  # noqa: D102
        return [f"--worker_machine_type={self.machine_type}"]

    def large_step_options(self) -> list[str]:  # noqa: D102
        return [
            f"--worker_machine_type={self.tensorflow_machine_type}",
            "--experiments=no_use_multiple_sdk_containers",
            f"--number_of_worker_harness_threads={self.tensorflow_threads}",
        ]


_ENGINES: dict[str, type[BeamEngine]] = {
    engine.name: engine for engine in (LocalEngine, LocalParallelEngine, FlinkEngine, SparkEngine, DataflowEngine)
}


def register(converter: cattrs.Converter) -> None:
    """Teaches a converter the three ways to write an engine.

    A name (`flink`), a mapping whose `engine` is a name, or a list of Beam's options, which are taken as they are.
    """

    def structure(value: Any, _: type) -> BeamEngine:
        if isinstance(value, list | tuple):
            value = {"engine": LocalEngine.name, "options": value}
        elif isinstance(value, str):
            value = {"engine": value}
        elif not isinstance(value, dict):
            raise TypeError(
                f"expected an engine's name, its keys and values, or a list of Beam's options, found {value!r}"
            )
        name = value.get("engine", LocalEngine.name)
        if name not in _ENGINES:
            near = difflib.get_close_matches(str(name), _ENGINES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(_ENGINES)}"
            raise ValueError(f"there is no engine {name!r}; {hint}")
        return converter.structure({k: v for k, v in value.items() if k != "engine"}, _ENGINES[name])

    def unstructure(engine: BeamEngine) -> dict[str, Any]:
        return {"engine": engine.name, **converter.unstructure(engine, type(engine))}

    converter.register_structure_hook_func(lambda kind: kind is BeamEngine, structure)
    converter.register_unstructure_hook_func(lambda kind: kind is BeamEngine, unstructure)


def _number(option: str, value: int | None) -> list[str]:
    return [f"--{option}={value}"] if value is not None else []
