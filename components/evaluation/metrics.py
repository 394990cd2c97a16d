"""Metrics as the gate and `compare` see them: a value, how sure it is, and how it changes between two models.

All from the predictions for single images. A new metric needs its name in `core.metrics` and an `Estimate` in `KINDS`.
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
    """By how much a metric of one model differs from another's, on the same images.

    `worse_by_at_most` tests that it is lower by at most so much, or higher where lower is better. `detail` is what else
    a sentence may say, such as `3 images lost and 2 gained`.
    """

    @property
    def value(self) -> float: ...  # noqa: D102
    @property
    def detail(self) -> str: ...  # noqa: D102
    def interval(self, confidence: float) -> Interval: ...  # noqa: D102
    def worse_by_at_most(self, bound: float) -> PValues: ...  # noqa: D102


class Estimate(Protocol):
    """A metric of one model, by its predictions for single images; `at_least` tests that it is truly so much."""

    @property
    def value(self) -> float: ...  # noqa: D102
    def interval(self, confidence: float) -> Interval: ...  # noqa: D102
    def at_least(self, bound: float) -> PValues: ...  # noqa: D102
    def change_from(self, before: Self) -> Change: ...  # noqa: D102


@dataclasses.dataclass(frozen=True)
class Fraction:
    """The fraction of images that count, bool [n]."""

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
    """Of `count` images, how many count only for the new model, and only for the old one."""

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
    """The fraction of images that get a label, and how many of these labels are right: all, where there are none.

    The second is over images that are not the same for two models, so that each counts by its weight.
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
"""All of `core.metrics.METRICS`: for those that are estimated together, the estimates of each model that it allows."""


class Estimates:
    """Every metric of a model and, if given, of the one before it, for the same images; computed where needed."""

    def __init__(self, *models: Predictions) -> None:
        self.models = models
        self._found: dict[tuple[str, ...], Sequence[Mapping[str, Estimate]]] = {}

    def of(self, metric: str) -> list[Estimate]:
        """Those of all models; none where the predictions do not allow it."""
        for names, estimate in KINDS.items():
            if metric in names and names not in self._found:
                self._found[names] = estimate(self.models)
        found = [estimates[metric] for kind in self._found.values() for estimates in kind if metric in estimates]
        return found if len(found) == len(self.models) else []

    def change(self, metric: str) -> Change | None:
        """The model minus the one before it; None where there is none, or the predictions do not allow it."""
        found = self.of(metric)
        return found[0].change_from(found[1]) if len(found) > 1 else None
