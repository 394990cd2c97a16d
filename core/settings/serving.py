"""The settings `serving`: what the exported model must show before it is pushed."""

from __future__ import annotations

import dataclasses
from typing import Literal

from core.settings.checks import AtLeast1, Positive, require
from core.settings.server import ServerLimits


@dataclasses.dataclass(frozen=True)
class InfraValidatorSettings:
    """How TFX's InfraValidator starts TensorFlow Serving; it needs Docker or Kubernetes where the pipeline runs.

    Attributes:
        image: of TensorFlow Serving.
        tag: its version; that of TensorFlow which exported the model, or newer.
        platform: what starts the container.
        service_account: of the pod, on Kubernetes.
        tries: how often a server that does not load the model is started again.
        requests: images of the test split that it is asked for.
    """

    image: str = "tensorflow/serving"
    tag: str = "2.15.1"
    platform: Literal["docker", "kubernetes"] = "docker"
    service_account: str | None = None
    tries: AtLeast1 = 3
    requests: AtLeast1 = 5


@dataclasses.dataclass(frozen=True)
class ServingSettings:
    """What the serving check demands of the exported model, null demanding nothing; and the bounds of `serve`.

    Attributes:
        max_median_latency_ms: of requests with one image, in milliseconds.
        max_latency_ms: of 99 % of these requests.
        max_load_seconds: from the start of loading to the first request.
        max_memory_mb: of the serving process after good requests, TensorFlow included.
        timeout_seconds: after this long the serving process counts as hung.
        server: what `serve` may be asked for.
        validator: `serving_check`, which needs nothing else, or `infra_validator`, TensorFlow Serving in a container,
            which knows neither latency nor memory.
        infra_validator: how that one starts the container.
    """

    max_median_latency_ms: Positive | None = None
    max_latency_ms: Positive | None = None
    max_load_seconds: Positive | None = None
    max_memory_mb: Positive | None = None
    timeout_seconds: AtLeast1 = 300
    server: ServerLimits = ServerLimits()
    validator: Literal["serving_check", "infra_validator"] = "serving_check"
    infra_validator: InfraValidatorSettings = InfraValidatorSettings()

    def __post_init__(self) -> None:
        require(
            self.validator == "serving_check"
            or self.max_median_latency_ms is self.max_latency_ms is self.max_memory_mb is None,
            "latency and memory are measured by validator: serving_check only",
        )
