"""The settings `runtime`, `kubeflow` and `airflow`: where the pipeline runs, which changes nothing of the model."""

import dataclasses
import datetime
import re
from typing import Literal

from core import secrets
from core.settings.beam import BeamEngine, LocalEngine
from core.settings.checks import AtLeast0, AtLeast1, FilePath, NotNegative, Positive, require


@dataclasses.dataclass(frozen=True)
class MetadataServer:
    """A MySQL or MariaDB server that keeps ML Metadata: backed up, and read by others, while runs go on.

    It may hold several pipelines, of different names. (ml-metadata 1.15, which TFX 1.15 needs, can write to PostgreSQL
    no text with a backslash, and every run has such.)

    Attributes:
        host: name or address.
        database: it must exist, and the user may do anything in it; the first run makes the tables.
        user: that runs log in as.
        password: from the environment, `${env:NAME}`; a record of the settings then holds no secret.
        engine: the kind of server; MariaDB is one of `mysql`.
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
    """How the pipeline is executed; none of it changes what the model is.

    Attributes:
        beam: where Apache Beam's steps run: `local`, `local-parallel`, `flink`, `spark` or `dataflow`, or a mapping of
            `engine` and its settings (core/settings/beam.py), or a list of Beam's pipeline options, taken as it is.
        bfloat16: compute the frozen prefix in bfloat16: `auto` where the CPU has it and the result agrees.
        feature_batch_size: images that go through the frozen prefix at a time; bounds the memory it needs.
        cache: reuse the outputs of stages whose inputs, settings and code have not changed.
        if_running: what a run, or `make prune`, does while another run uses the folder: `refuse` to
            begin, or `wait` for its end.
        keep_runs: runs whose artifacts stay, beside those of the last blessed model and of the pushed versions; the
            others' are deleted when a run ends, and by `make prune`.
        metrics_directory: the folder that node_exporter's textfile collector reads: every run replaces `<name>.prom` in
            it. The run's own folder if null.
        metadata: a MySQL or MariaDB server for ML Metadata; SQLite in the run's folder if null.
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
    """What one stage's container asks of a cluster; null takes the default of `pipeline.runners.kubeflow.RESOURCES`.

    Attributes:
        cpu: cores, fractions too.
        memory_gb: memory in GiB.
        gpus: of the kind `kubeflow.accelerator`.
    """

    cpu: Positive | None = None
    memory_gb: Positive | None = None
    gpus: AtLeast0 | None = None


@dataclasses.dataclass(frozen=True)
class VolumeSettings:
    """A persistent volume claim of the cluster, mounted in every container: storage without a cloud's buckets.

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
    """What `make kubeflow` compiles into a spec, for containers that see nothing of this machine.

    Attributes:
        image: the container image with this project (`Dockerfile`), as the cluster pulls it.
        pipeline_root: folder of all artifacts, such as `gs://bucket/pipelines`; without it, a run asks for it.
        volume: a volume to mount; only on a cluster of one's own.
        retries: how often a stage that failed is started again.
        accelerator: the kind of GPU, by Vertex's name; on a cluster of one's own any NVIDIA GPU will do.
        resources: by stage, such as `{Trainer: {gpus: 1}}`; the exit handler is one, `ExitHandler`.
        environment: variables by stage, such as `{Trainer: {TF_CONFIG: "…"}}`, or of the `ExitHandler`, which starts
            `notify`; a secret's value is `${secret:NAME/KEY}`, a key of a Kubernetes secret.
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
        schedule: a cron expression or a preset such as `@daily`; null runs only what is triggered.
        start_date: the first day of the schedule, ISO 8601; missed runs before today are not caught up, and a run
            triggered before that day has no tasks: Airflow's rule.
        retries: how often a task that failed is started again; bad input is not, since it would fail again.
        retry_delay_minutes: before that.
        max_active_tasks: components that run at a time. More than one needs a machine with that much memory: each is a
            process with TensorFlow.
        on_failure: dotted path of a function that is given Airflow's context when a run has failed, or was refused.
        owner: as Airflow shows it.
        tags: by which Airflow finds the DAG.
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
