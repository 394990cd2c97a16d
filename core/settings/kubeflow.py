"""The settings `kubeflow`: the containers of a cluster."""

import dataclasses

from core.settings.checks import AtLeast0, Positive, require


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
        resources: by stage, such as `{Trainer: {gpus: 1}}`.
        environment: variables by stage, such as `{Trainer: {TF_CONFIG: "…"}}`.
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
