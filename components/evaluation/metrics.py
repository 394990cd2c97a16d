"""Metrics as the gate and `compare` use them: a value, its uncertainty, and its change between two models.

All come from predictions for individual images. A new metric needs its name in `core.metrics` and an `Estimate` in
`KINDS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from components.evaluation import intervals, significance
from components.evaluation.calibration import CalibrationError
from components.evaluation.class_means import ClassMean, class_means
from components.evaluation.intervals import Interval
from components.evaluation.mean_loss import mean_losses
from components.evaluation.predictions import Predictions
from components.evaluation.significance import PValues
from core.metrics import CALIBRATION, COVERED, FRACTIONS, LOSS, MEANS

if TYPE_CHECKING:
    from typing_extensions import Self


class Change(Protocol):
    """The difference between two models' values of a metric on the same images.

    `worse_by_at_most` tests that it is lower by at most a bound, or higher if lower is better. `detail` is an addition
    for messages, such as `3 images lost and 2 gained`.
    """

    @property
    def value(self) -> float: ...  # noqa: D102
    @property
    def detail(self) -> str: ...  # noqa: D102
    def interval(self, confidence: float) -> Interval: ...  # noqa: D102
    def worse_by_at_most(self, bound: float) -> PValues: ...  # noqa: D102


class Estimate(Protocol):
    """A metric of one model, from predictions for individual images; `at_least` tests that the true value reaches a
    bound.
    """

    @property
    def value(self) -> float: ...  # noqa: D102
    def interval(self, confidence: float) -> Interval: ...  # noqa: D102
    def at_least(self, bound: float) -> PValues: ...  # noqa: D102
    def change_from(self, before: Self) -> Change: ...  # noqa: D102


@dataclasses.dataclass(frozen=True)
class Fraction:
    """The fraction of images that are True in `counts`, bool [n]."""

    counts: np.ndarray

    @property
    def value(self) -> float:  # noqa: D102
        return float(self.counts.mean())

    def interval(self, confidence: float) -> Interval:  # noqa: D102
        return intervals.wilson(int(self.counts.sum()), len(self.counts), confidence)

    def at_least(self, bound: float) -> PValues:  # noqa: D102
        return significance.fraction_at_least(int(self.counts.sum()), len(self.counts), bound)

    def change_from(self, before: Fraction) -> FractionChange:  # noqa: D102
        gained, lost = self.counts & ~before.counts, before.counts & ~self.counts
        return FractionChange(int(gained.sum()), int(lost.sum()), len(self.counts))


@dataclasses.dataclass(frozen=True)
class FractionChange:
    """How many of `count` images count only for the new model, and how many only for the old one."""

    gained: int
    lost: int
    count: int

    @property
    def value(self) -> float:  # noqa: D102
        return (self.gained - self.lost) / self.count

    @property
    def detail(self) -> str:  # noqa: D102
        return f"{self.lost} images lost and {self.gained} gained"

    def interval(self, confidence: float) -> Interval:  # noqa: D102
        return intervals.paired_change(self.gained, self.lost, self.count, confidence)

    def worse_by_at_most(self, bound: float) -> PValues:  # noqa: D102
        return significance.drop_at_most(self.gained, self.lost, self.count, bound)


def covered(predictions: Predictions) -> dict[str, Estimate]:
    """The fraction of images that get a label, and the accuracy of these labels, which is 1 if there are none.

    The latter is over different images for different models, so each image counts by its weight.
    """
    labeled = np.ones(predictions.count, bool) if predictions.labeled is None else predictions.labeled
    weight = 1 / max(int(labeled.sum()), 1)
    loss = (labeled & ~predictions.right) * weight
    return dict(zip(COVERED, (Fraction(labeled), ClassMean(1 - float(loss.sum()), loss, weight)), strict=True))


KINDS: dict[tuple[str, ...], Callable[[Sequence[Predictions]], Sequence[Mapping[str, Estimate]]]] = {
    FRACTIONS: lambda models: [
        {"accuracy": Fraction(m.right), "top_3_accuracy": Fraction(m.rank <= 3)} for m in models
    ],
    (LOSS,): lambda models: [{LOSS: loss} for loss in mean_losses(models)],
    (CALIBRATION,): lambda models: [{CALIBRATION: CalibrationError(m)} for m in models],
    COVERED: lambda models: [covered(m) for m in models],
    MEANS: lambda models: [class_means(m) for m in models],
}
"""All of `core.metrics.METRICS`, by groups that are estimated together: each model's estimates, as far as possible."""


class Estimates:
    """Every metric of a model and optionally of a baseline on the same images, computed when needed."""

    def __init__(self, *models: Predictions) -> None:
        self.models = models
        self._found: dict[tuple[str, ...], Sequence[Mapping[str, Estimate]]] = {}

    def of(self, metric: str) -> list[Estimate]:
        """The estimates of all models; none if the predictions do not allow the metric."""
        for names, estimate in KINDS.items():
            if metric in names and names not in self._found:
                self._found[names] = estimate(self.models)
        found = [estimates[metric] for kind in self._found.values() for estimates in kind if metric in estimates]
        return found if len(found) == len(self.models) else []

    def change(self, metric: str) -> Change | None:
        """The model minus the baseline; None if there is none or the predictions do not allow the metric."""
        found = self.of(metric)
        return found[0].change_from(found[1]) if len(found) > 1 else None
