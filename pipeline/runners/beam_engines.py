"""Beam's pipeline options for the engine in the settings (`runtime.beam`).

Two kinds of steps need different workers. Those that run TensorFlow graphs need a few large ones, with one Python
process each: a process loads the network once for all its threads, and TensorFlow uses all cores. Those that read files
or count need many small ones, with a Python process per core.
"""

from __future__ import annotations

from collections.abc import Iterator

from core.artifacts.ingest_record import EXAMPLES, REGRESSION_EXAMPLES
from core.artifacts.nodes import STATISTICS
from core.settings import beam

SMALL_STEPS = frozenset({EXAMPLES.node, REGRESSION_EXAMPLES.node, STATISTICS.node})
"""Ids of the Beam components that run no TensorFlow graph. All others get the large workers."""

SEND_NOTHING = "--sdk_container_image={}"
"""Beam's option that names the workers' image. Without it TFX packs its own source for them, as an sdist, in every step
that has any Beam option at all (tfx/utils/dependency_utils.py). Workers of ours have the whole locked environment."""

_KEEP_WORKERS_MS = 20_000
"""How long a node keeps a Python worker that has nothing to do for its job: between stages, it would else end."""

_THIS_ENVIRONMENT = "workers-have-the-environment"


def options_for(engine: beam.BeamEngine, component_id: str) -> list[str]:
    """All of Beam's pipeline options for one component; those in the settings come last, so they win."""
    small = component_id in SMALL_STEPS
    if isinstance(engine, beam.LocalParallelEngine):
        own = _local_parallel(engine, small)
    elif isinstance(engine, beam.PortableEngine):
        own = _portable(engine, small)
    elif isinstance(engine, beam.DataflowEngine):
        own = _dataflow(engine, small)
    else:
        own = []
    return [*own, *engine.options]


def notes_on_engine(engine: beam.BeamEngine) -> Iterator[str]:
    """A sentence about ports of an engine that others could reach, since Beam cannot restrict them to this machine."""
    if isinstance(engine, beam.LocalParallelEngine):
        servers = "the servers that Beam starts for its processes"
    elif isinstance(engine, beam.PortableEngine):
        servers = "Beam's job server, and what it starts on the cluster's nodes for the workers,"
    else:
        return
    yield (
        f"{servers} listen on all interfaces, without authentication (runtime.beam, docs/beam-engines.md): use them "
        "where no one else reaches these machines"
    )


def _local_parallel(engine: beam.LocalParallelEngine, small: bool) -> list[str]:
    mode, workers = ("multi_processing", engine.workers) if small else ("in_memory", 1)
    return [
        "--runner=DirectRunner",
        SEND_NOTHING.format(_THIS_ENVIRONMENT),
        f"--direct_running_mode={mode}",
        f"--direct_num_workers={workers}",
    ]


def _portable(engine: beam.PortableEngine, small: bool) -> list[str]:
    parallelism = None
    if isinstance(engine, beam.FlinkEngine):
        runner = [f"--flink_master={engine.flink_master}", *_given("flink_job_server_jar", engine.job_server_jar)]
        parallelism = engine.parallelism if small else engine.tensorflow_parallelism
    elif isinstance(engine, beam.SparkEngine):
        runner = [f"--spark_master_url={engine.spark_master_url}"]
        runner += _given("spark_job_server_jar", engine.job_server_jar)
    if engine.job_endpoint:
        runner = [f"--job_endpoint={engine.job_endpoint}"]
    kind = "DOCKER" if engine.image else "EXTERNAL" if engine.worker_pool else "LOOPBACK"
    return [
        "--runner=pipeline.runners.cluster_runner.ClusterRunner",
        *runner,
        f"--environment_type={kind}",
        *_given("environment_config", engine.image or engine.worker_pool),
        f"--environment_cache_millis={_KEEP_WORKERS_MS}",
        f"--job_server_timeout={round(engine.timeout_hours * 3600)}",
        SEND_NOTHING.format(engine.image or _THIS_ENVIRONMENT),
        "--experiments=disable_logging_submission_environment",  # by pip, which this environment does without
        f"--sdk_worker_parallelism={0 if small else 1}",  # 0: the runner's choice, a process per core
        *_given("parallelism", parallelism),
    ]


def _dataflow(engine: beam.DataflowEngine, small: bool) -> list[str]:
    shared = [
        "--runner=DataflowRunner",
        f"--project={engine.project}",
        f"--region={engine.region}",
        f"--temp_location={engine.temp_location}",
        SEND_NOTHING.format(engine.image),
        f"--max_num_workers={engine.max_workers}",
        "--experiments=use_runner_v2",
    ]
    if small:
        return [*shared, f"--worker_machine_type={engine.machine_type}"]
    return [
        *shared,
        f"--worker_machine_type={engine.tensorflow_machine_type}",
        "--experiments=no_use_multiple_sdk_containers",
        f"--number_of_worker_harness_threads={engine.tensorflow_threads}",
    ]


def _given(option: str, value: object) -> list[str]:
    return [f"--{option}={value}"] if value else []
