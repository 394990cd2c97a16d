"""The settings `runtime`, `kubeflow` and `airflow`: where the pipeline runs, which does not affect the model."""

import dataclasses
import datetime
import re
from typing import Literal

from core import secrets
from core.settings.beam import BeamEngine, LocalEngine
from core.settings.checks import AtLeast0, AtLeast1, FilePath, NotNegative, Positive, require


@dataclasses.dataclass(frozen=True)
class MetadataServer:
    """A MySQL or MariaDB server for ML Metadata, which can be backed up and queried while runs go on.

    It may hold several pipelines with different names. (ml-metadata 1.15, which TFX 1.15 needs, cannot write text with
    backslashes to PostgreSQL, and every run has some.)

    Attributes:
        host: name or address.
        database: must exist, with all privileges for the user; the first run creates the tables.
        user: the account that runs log in with.
        password: from the environment, `${env:NAME}`, so that recorded settings hold no secret.
        engine: the kind of server; `mysql` includes MariaDB.
        port: where it listens.
    """

    host: str
    database: str
    user: str
    password: str
    engine: Literal["mysql"] = "mysql"
    port: AtLeast1 = 3306

    def __post_init__(self) -> None:
        require(
            secrets.VARIABLE.fullmatch(self.password) is not None,
            "runtime.metadata.password must name an environment variable, such as ${env:MLMD_PASSWORD}: settings are "
            "recorded with every run",
        )


@dataclasses.dataclass(frozen=True)
class RuntimeSettings:
    """How the pipeline is executed; none of it affects the model.

    Attributes:
        beam: where Apache Beam's steps run: `local`, `local-parallel`, `flink`, `spark` or `dataflow`; or a mapping of
            `engine` and its settings (core/settings/beam.py); or a list of Beam's pipeline options, used as given.
        bfloat16: compute the frozen prefix in bfloat16; `auto` does if the CPU supports it and the result agrees.
        feature_batch_size: images that go through the frozen prefix at a time; bounds its memory.
        cache: reuse the outputs of stages whose inputs, settings and code have not changed.
        if_running: what a run or `make prune` does while another run uses the folder: `refuse` to start, or `wait`
            until it ends.
        keep_runs: how many runs keep their artifacts, besides those of the last blessed model and the pushed versions;
            other artifacts are deleted when a run ends, and by `make prune`.
        metrics_directory: the folder that node_exporter's textfile collector reads; every run replaces `<name>.prom` in
            it. null: the run folder.
        metadata: a MySQL or MariaDB server for ML Metadata; null: SQLite in the run folder.
    """

    beam: BeamEngine = LocalEngine()
    bfloat16: Literal["auto", "on", "off"] = "auto"
    feature_batch_size: AtLeast1 = 32
    cache: bool = True
    if_running: Literal["refuse", "wait"] = "refuse"
    keep_runs: AtLeast1 = 10
    metrics_directory: FilePath | None = None
    metadata: MetadataServer | None = None


@dataclasses.dataclass(frozen=True)
class ResourceSettings:
    """What one stage's container requests; null takes the default of `pipeline.runners.kubeflow.RESOURCES`.

    Attributes:
        cpu: cores; may be fractional.
        memory_gb: memory in GiB.
        gpus: of the kind `kubeflow.accelerator`.
    """

    cpu: Positive | None = None
    memory_gb: Positive | None = None
    gpus: AtLeast0 | None = None


@dataclasses.dataclass(frozen=True)
class VolumeSettings:
    """A persistent volume claim, mounted in every container: storage without cloud buckets.

    Attributes:
        claim: its name.
        path: where it is mounted.
    """

    claim: str
    path: str = "/mnt/pipeline"

    def __post_init__(self) -> None:
        require(bool(self.claim), "claim must name a persistent volume claim")
        require(self.path.startswith("/"), f"path is {self.path!r}; it must be absolute")


@dataclasses.dataclass(frozen=True)
class KubeflowSettings:
    """What `make kubeflow` compiles into a spec, for containers that have no access to this machine.

    Attributes:
        image: the container image with this project (`Dockerfile`), as the cluster pulls it.
        pipeline_root: folder of all artifacts, such as `gs://bucket/pipelines`; if null, it is a parameter of the run.
        volume: a volume to mount; only for `TARGET=cluster`.
        retries: how often a failed stage is retried.
        accelerator: the kind of GPU, by Vertex AI's name; your own cluster takes any NVIDIA GPU.
        resources: by stage, such as `{Trainer: {gpus: 1}}`; the exit handler is the stage `ExitHandler`.
        environment: variables by stage, such as `{Trainer: {TF_CONFIG: "…"}}`; `ExitHandler` runs `notify`. A secret is
            written `${secret:NAME/KEY}`, a key of a Kubernetes secret.
    """

    image: str = "tfx-image-classifier:latest"
    pipeline_root: str | None = None
    volume: VolumeSettings | None = None
    retries: AtLeast0 = 2
    accelerator: str = "NVIDIA_TESLA_T4"
    resources: dict[str, ResourceSettings] = dataclasses.field(default_factory=dict)
    environment: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        require(bool(self.image.strip()), "image must name a container image")


@dataclasses.dataclass(frozen=True)
class AirflowSettings:
    """What `make airflow` writes into the DAG beside the pipeline.

    Attributes:
        schedule: a cron expression or a preset such as `@daily`; null: only triggered runs.
        start_date: the first day of the schedule, ISO 8601. Missed runs are not caught up; a run triggered before that
            day has no tasks, as Airflow has it.
        retries: how often a failed task is retried; bad input is not, since it would fail again.
        retry_delay_minutes: the wait before a retry.
        max_active_tasks: components that run at a time. Each is a process with TensorFlow, so more than one needs a
            machine with enough memory.
        on_failure: dotted path of a function that is called with Airflow's context when a run has failed or was
            refused.
        owner: as Airflow shows it.
        tags: for finding the DAG in Airflow.
    """

    schedule: str | None = None
    start_date: str = "2025-01-01"
    retries: AtLeast0 = 1
    retry_delay_minutes: NotNegative = 5.0
    max_active_tasks: AtLeast1 = 1
    on_failure: str | None = None
    owner: str = "airflow"
    tags: tuple[str, ...] = ("tfx",)

    def __post_init__(self) -> None:
        try:
            datetime.date.fromisoformat(self.start_date)
        except ValueError:
            raise ValueError(f"start_date is {self.start_date!r}; it is a day such as '2025-01-01'") from None
        require(
            self.on_failure is None or re.fullmatch(r"\w+(\.\w+)+", self.on_failure) is not None,
            f"on_failure is {self.on_failure!r}; it is the dotted path of a function, such as company.alerts.page",
        )
