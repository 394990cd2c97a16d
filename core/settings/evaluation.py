"""The settings `evaluation`, `push` and `card`: what a model must be to be pushed, and what it claims."""

from __future__ import annotations

import dataclasses
import difflib
import math
from typing import Literal

from core import slices
from core.settings.training import require

METRICS = (
    "accuracy",
    "top_3_accuracy",
    "cross_entropy",
    "expected_calibration_error",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "macro_auc",
    "weighted_precision",
    "weighted_recall",
    "weighted_f1",
    "weighted_auc",
)
"""Names of the metrics that settings may bound; those of classes are measured too."""


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
class EvaluationSettings:
    """What is measured, on which slices, and what a model must reach to be pushed; docs/gate.md says how it is judged.

    Attributes:
        slices: `label`, or another feature `slice/…` by its name; several joined by `*` are crossed.
        thresholds: bounds on the whole test split, by metric.
        per_slice: bounds on every slice, by metric.
        confidence: a bound is broken if the test images say so with this confidence, all bounds taken together.
        on_doubt: what happens to a model of which they can neither say that it keeps a bound nor that it breaks it.
    """

    slices: tuple[str, ...] = ("label", "resolution", "brightness")
    thresholds: dict[str, MetricBounds] = dataclasses.field(default_factory=dict)
    per_slice: dict[str, SliceBounds] = dataclasses.field(default_factory=dict)
    confidence: float = 0.95
    on_doubt: Literal["pass", "refuse"] = "pass"

    def __post_init__(self) -> None:
        slices.feature_keys(self.slices)
        require(0.5 <= self.confidence < 1, f"confidence is {self.confidence}; it is a part, from 0.5 to below 1")
        for group in ("thresholds", "per_slice"):
            for metric in getattr(self, group):
                near = difflib.get_close_matches(metric, METRICS, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(METRICS)}"
                require(metric in METRICS, f"{group}.{metric}: there is no such metric; {hint}")
                bounds = getattr(self, group)[metric]
                shares = [bounds.min, bounds.max] if metric != "cross_entropy" else []
                require(
                    all(b is None or 0 <= b <= 1 for b in shares), f"{group}.{metric}: bounds are parts, from 0 to 1"
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
