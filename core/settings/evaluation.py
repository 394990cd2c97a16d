"""The settings `evaluation`, `serving`, `push` and `card`: what a model must be to be pushed, and what it claims."""

from __future__ import annotations

import dataclasses
import difflib
import math
from typing import Literal

from core import slices
from core.metrics import LOSS, METRICS
from core.settings.server import ServerLimits
from core.settings.training import require


@dataclasses.dataclass(frozen=True)
class MetricBounds:
    """Bounds of one metric on the whole test split.

    Attributes:
        min: the least it may be.
        max: the most it may be.
        max_drop: how much worse it may be than the last blessed model's on the same images; of a loss, how much higher.
    """

    min: float | None = None
    max: float | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        _check_range(self.min, self.max)
        require(self.max_drop is None or self.max_drop >= 0, f"max_drop is {self.max_drop}; it must not be negative")


@dataclasses.dataclass(frozen=True)
class SliceBounds(MetricBounds):
    """Bounds of one metric on every slice that has enough test images.

    Attributes:
        min_examples: so many test images are enough.
    """

    min_examples: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.min_examples >= 1, "min_examples must be at least 1")


@dataclasses.dataclass(frozen=True)
class GateBounds:
    """What a model must reach to be pushed; docs/gate.md says how it is judged.

    Attributes:
        thresholds: bounds on the whole test split, by metric.
        per_slice: bounds on every slice, by metric.
        confidence: a bound is broken if the test images say so with this confidence, all bounds taken together.
        on_doubt: what happens to a model of which they can neither say that it keeps a bound nor that it breaks it.
    """

    thresholds: dict[str, MetricBounds] = dataclasses.field(default_factory=dict)
    per_slice: dict[str, SliceBounds] = dataclasses.field(default_factory=dict)
    confidence: float = 0.95
    on_doubt: Literal["pass", "refuse"] = "pass"

    def __post_init__(self) -> None:
        require(0.5 <= self.confidence < 1, f"confidence is {self.confidence}; it must be at least 0.5 and less than 1")
        for group in ("thresholds", "per_slice"):
            for metric in getattr(self, group):
                near = difflib.get_close_matches(metric, METRICS, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(METRICS)}"
                require(metric in METRICS, f"{group}.{metric}: there is no such metric; {hint}")
                bounds = getattr(self, group)[metric]
                fractions = [bounds.min, bounds.max] if metric != LOSS else []
                require(
                    all(b is None or 0 <= b <= 1 for b in fractions),
                    f"{group}.{metric}: bounds are fractions, from 0 to 1",
                )


@dataclasses.dataclass(frozen=True)
class EvaluationSettings(GateBounds):
    """What is measured, on which slices, and what a model must reach to be pushed; docs/gate.md says how it is judged.

    Attributes:
        slices: `label`, or another feature `slice/…` by its name; several joined by `*` are crossed.
    """

    slices: tuple[str, ...] = ("label", "resolution", "brightness")

    def __post_init__(self) -> None:
        super().__post_init__()
        slices.feature_keys(self.slices)

    @property
    def bounds(self) -> GateBounds:
        """What the gate needs to know: other slices alone do not run it again."""
        return GateBounds(**{field.name: getattr(self, field.name) for field in dataclasses.fields(GateBounds)})


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
    tries: int = 3
    requests: int = 5

    def __post_init__(self) -> None:
        require(self.tries >= 1 and self.requests >= 1, "tries and requests must be at least 1")


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

    max_median_latency_ms: float | None = None
    max_latency_ms: float | None = None
    max_load_seconds: float | None = None
    max_memory_mb: float | None = None
    timeout_seconds: int = 300
    server: ServerLimits = ServerLimits()
    validator: Literal["serving_check", "infra_validator"] = "serving_check"
    infra_validator: InfraValidatorSettings = InfraValidatorSettings()

    def __post_init__(self) -> None:
        require(self.timeout_seconds > 0, "timeout_seconds must be positive")
        for name in ("max_median_latency_ms", "max_latency_ms", "max_load_seconds", "max_memory_mb"):
            most = getattr(self, name)
            require(
                most is None or 0 < most < math.inf, f"{name} is {most}; it must be a positive, finite number, or null"
            )
        require(
            self.validator == "serving_check"
            or self.max_median_latency_ms is self.max_latency_ms is self.max_memory_mb is None,
            "latency and memory are measured by validator: serving_check only",
        )


@dataclasses.dataclass(frozen=True)
class PushSettings:
    """Where blessed models go, and how many versions stay there.

    Attributes:
        directory: where a folder per version is written; a relative path lies in `<ROOT>/<name>/`.
        keep: versions that stay; the oldest beyond that are deleted.
    """

    directory: str = "serving/"
    keep: int = 5

    def __post_init__(self) -> None:
        require(self.keep >= 1, "keep must be at least 1")


@dataclasses.dataclass(frozen=True)
class CardSettings:
    """What only people can say of the model; it goes onto the model card of every version pushed from then on.

    Attributes:
        intended_use: what the model is for, in a paragraph; a plain statement of what it does where not given.
        limits: where it must not be relied on, a sentence each; measured ones are added.
        owner: who answers for it, and how to reach them.
        licence: of the model.
    """

    intended_use: str | None = None
    limits: tuple[str, ...] = ()
    owner: str | None = None
    licence: str | None = None


def _check_range(least: float | None, most: float | None) -> None:
    for name, value in (("min", least), ("max", most)):
        require(value is None or math.isfinite(value), f"{name} is {value}; it must be a finite number")
    require(least is None or most is None or least <= most, f"min is {least}, above max, which is {most}")
