"""The settings `serving`: what the exported model must show before it is pushed, and what a model server takes."""

import dataclasses
from typing import Annotated, Literal

from msgspec import Meta

from core.settings.checks import AtLeast1, FilePath, Positive, require

AROUND_IMAGES = 2**16
"""Bytes of a request for names, shapes and lengths."""


@dataclasses.dataclass(frozen=True)
class ServerLimits:
    """Limits of one server; it refuses requests beyond them, and keeps serving.

    Attributes:
        max_message_mb: of a request's images, in MB of 2^20 bytes, from `data.max_file_mb` to 1024, since a message of
            protobuf ends at 2 GB. (gRPC's own default is 4, TensorFlow Serving has none.)
        max_megapixels: width times height of the images together, in millions, read in their headers, of a request and
            of all that is computed at the same time; at least four times `data.max_megapixels`.
        max_batch: images in a request; each is held as pixels, and in the network as some ten times that.
        request_seconds: a request that has waited and computed for this long is canceled.
        concurrent: batches that are computed at the same time; one of requests that are joined, the others large.
        waiting: requests that may wait for that, or be on their way; the server refuses more at once, as busy.
        joined: images of several requests that are computed as one batch; 1 computes each request alone. What waits
            anyway is joined: nothing waits for a batch to fill for longer than 10 ms, and none is to take more than
            0.2 s.
        poll_seconds: how often it looks for versions that were pushed or rolled back.
        drain_seconds: after a signal to stop, the time that running requests have to finish.
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
        """The most bytes that a request's images have together."""
        return self.max_message_mb * 2**20

    @property
    def pixels(self) -> int:
        """The most pixels that a request's images have together."""
        return self.max_megapixels * 1_000_000

    @property
    def message_bytes(self) -> int:
        """The most bytes of a request."""
        return self.image_bytes + AROUND_IMAGES


@dataclasses.dataclass(frozen=True)
class RequestLogSettings:
    """What `serve` writes down of the images it is asked about, for `monitor`.

    Attributes:
        folder: where; it is made, and only its owner may read it.
        sample: the fraction of images that are written down, chosen at random.
        images: whether the pictures are kept, too. They may show what must not be kept.
        max_mb: of all files of the log, in MB of 2^20 bytes; the oldest go when there are more.
        max_days: after which files go.
    """

    folder: FilePath
    sample: Annotated[float, Meta(gt=0, le=1)] = 1.0
    images: bool = False
    max_mb: AtLeast1 = 1024
    max_days: Positive = 30.0

    @property
    def max_bytes(self) -> int:
        """Of all files of the log."""
        return self.max_mb * 2**20


@dataclasses.dataclass(frozen=True)
class InfraValidatorSettings:
    """How TFX's InfraValidator starts TensorFlow Serving; it needs Docker or Kubernetes where the pipeline runs.

    Attributes:
        image: of TensorFlow Serving.
        tag: its version; that of TensorFlow which exported the model, or newer.
        platform: what starts the container.
        service_account: of the pod, on Kubernetes.
        tries: how often a server that does not load the model is started again.
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
    """What the serving check demands of the exported model, null demanding nothing; and the limits of `serve`.

    Attributes:
        max_median_latency_ms: of requests with one image, in milliseconds.
        max_latency_ms: of 99 % of these requests.
        max_load_seconds: from the start of loading to the first request, the requests to warm up with included.
        max_memory_mb: of the serving process after good requests, TensorFlow included.
        timeout_seconds: after this long the serving process is ended, and the stage fails; the model is not refused.
        server: the limits of `serve`, and of the server that the serving check asks.
        validator: `serving_check`, which needs nothing else, or `infra_validator`, TensorFlow Serving in a container,
            which knows neither latency nor memory.
        infra_validator: how that one starts the container.
        request_log: of `serve`; null keeps none.
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
        """Whether a latency decides: then it is measured with nothing beside it."""
        return not (self.max_median_latency_ms is self.max_latency_ms is None)
