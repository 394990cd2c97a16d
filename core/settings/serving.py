"""The settings `serving`: what the exported model must show before it is pushed, and the limits of a model server."""

import dataclasses
from typing import Annotated, Literal

from msgspec import Meta

from core.settings.checks import AtLeast1, FilePath, Positive, require

AROUND_IMAGES = 2**16
"""Bytes of a request for everything but images: names, shapes and lengths."""


@dataclasses.dataclass(frozen=True)
class ServerLimits:
    """Limits of one server; it refuses requests beyond them, and keeps serving.

    Attributes:
        max_message_mb: size of a request's images, in MB of 2^20 bytes, from `data.max_file_mb` to 1024, since a
            protobuf message cannot exceed 2 GB. (gRPC's own default is 4, TensorFlow Serving has none.)
        max_megapixels: total pixels of the images in a request, and of all images computed at the same time, in
            millions, according to their headers; at least four times `data.max_megapixels`.
        max_batch: images in a request; each needs memory for its pixels, and some ten times as much in the network.
        request_seconds: a request is canceled after this long, waiting included.
        concurrent: batches computed at the same time; one of joined requests, the others large.
        waiting: requests that may wait or be in transfer; the server refuses further ones immediately, as busy.
        joined: images of several requests computed as one batch; 1 computes each request alone. Requests that wait
            anyway are joined: none waits longer than 10 ms for a batch to fill, and no batch is meant to take longer
            than 0.2 s.
        poll_seconds: how often the server looks for pushed and rolled-back versions.
        drain_seconds: how long running requests may take to finish after a signal to stop.
    """

    max_message_mb: Annotated[int, Meta(ge=1, le=1024)] = 64
    max_megapixels: AtLeast1 = 1000
    max_batch: AtLeast1 = 64
    request_seconds: Positive = 60.0
    concurrent: AtLeast1 = 2
    waiting: AtLeast1 = 16
    joined: AtLeast1 = 16
    poll_seconds: Positive = 1.0
    drain_seconds: Positive = 10.0

    @property
    def image_bytes(self) -> int:
        """The maximum total size of a request's images, in bytes."""
        return self.max_message_mb * 2**20

    @property
    def pixels(self) -> int:
        """The maximum total number of pixels of a request's images."""
        return self.max_megapixels * 1_000_000

    @property
    def message_bytes(self) -> int:
        """The maximum size of a request, in bytes."""
        return self.image_bytes + AROUND_IMAGES


@dataclasses.dataclass(frozen=True)
class RequestLogSettings:
    """What `serve` logs about the images in requests, for `monitor`.

    Attributes:
        folder: where to write; it is created, and only its owner may read it.
        sample: the fraction of images to log, chosen at random.
        images: whether to keep the images too. They may show what must not be kept.
        max_mb: total size of the log's files, in MB of 2^20 bytes; beyond it, the oldest are deleted.
        max_days: how long files are kept.
    """

    folder: FilePath
    sample: Annotated[float, Meta(gt=0, le=1)] = 1.0
    images: bool = False
    max_mb: AtLeast1 = 1024
    max_days: Positive = 30.0

    @property
    def max_bytes(self) -> int:
        """The maximum total size of the log's files, in bytes."""
        return self.max_mb * 2**20


@dataclasses.dataclass(frozen=True)
class InfraValidatorSettings:
    """How TFX's InfraValidator starts TensorFlow Serving; it needs Docker or Kubernetes where the pipeline runs.

    Attributes:
        image: of TensorFlow Serving.
        tag: its version; that of the TensorFlow that exported the model, or newer.
        platform: what starts the container.
        service_account: of the pod, on Kubernetes.
        tries: how often a server that does not load the model is restarted.
        requests: images of the test split that it must classify.
    """

    image: str = "tensorflow/serving"
    tag: str = "2.15.1"
    platform: Literal["docker", "kubernetes"] = "docker"
    service_account: str | None = None
    tries: AtLeast1 = 3
    requests: AtLeast1 = 5


@dataclasses.dataclass(frozen=True)
class ServingSettings:
    """Bounds that the serving check puts on the exported model (null means no bound), and the limits of `serve`.

    Attributes:
        max_median_latency_ms: median latency of requests with one image, in milliseconds.
        max_latency_ms: 99th percentile of the same.
        max_load_seconds: from the start of loading to the first request, including warm-up requests.
        max_memory_mb: memory of the serving process after good requests, including TensorFlow.
        timeout_seconds: after this long, the serving process is stopped and the stage fails; the model is not refused.
        server: the limits of `serve`, and of the server used by the serving check.
        validator: `serving_check`, which needs nothing else, or `infra_validator`, TensorFlow Serving in a container,
            which measures neither latency nor memory.
        infra_validator: how the InfraValidator starts the container.
        request_log: of `serve`; null: no log.
    """

    max_median_latency_ms: Positive | None = None
    max_latency_ms: Positive | None = None
    max_load_seconds: Positive | None = None
    max_memory_mb: Positive | None = None
    timeout_seconds: AtLeast1 = 300
    server: ServerLimits = ServerLimits()
    validator: Literal["serving_check", "infra_validator"] = "serving_check"
    infra_validator: InfraValidatorSettings = InfraValidatorSettings()
    request_log: RequestLogSettings | None = None

    def __post_init__(self) -> None:
        require(
            self.validator == "serving_check" or not (self.limits_latency or self.max_memory_mb),
            "latency and memory are measured by validator: serving_check only",
        )

    @property
    def limits_latency(self) -> bool:
        """Whether latency is bounded, so that it must be measured with nothing else running."""
        return not (self.max_median_latency_ms is self.max_latency_ms is None)
