"""The mean loss and its uncertainty, by resampling the images (Poisson bootstrap, Hanley and MacGibbon 2006)."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from components.evaluation import significance
from components.evaluation.intervals import Interval
from components.evaluation.predictions import Predictions
from components.evaluation.significance import PValues

_RESAMPLES = 1000
_CHUNK = 4_000_000  # weights held at a time: 32 MB


@dataclasses.dataclass(frozen=True)
class MeanLoss:
    """The losses [n] of n images and the mean in every resample [r]; or their changes from another model's."""

    losses: np.ndarray
    samples: np.ndarray
    detail: str = ""

    @property
    def value(self) -> float:  # noqa: D102
        return float(self.losses.mean())

    def interval(self, confidence: float) -> Interval:
        """The percentile interval, extended to include the value."""
        low, high = np.quantile(self.samples, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Interval(self.value, min(float(low), self.value), max(float(high), self.value), len(self.losses))

    def at_least(self, bound: float) -> PValues:
        """Student's t, corrected for the bias that resampling shows."""
        corrected, error = 2 * self.value - float(self.samples.mean()), float(self.samples.std(ddof=1))
        return significance.at_least(corrected, error, len(self.losses), bound)

    def change_from(self, before: MeanLoss) -> MeanLoss:  # noqa: D102
        return MeanLoss(self.losses - before.losses, self.samples - before.samples)

    def worse_by_at_most(self, bound: float) -> PValues:
        """Paired Student's t."""
        count = len(self.losses)
        error = float(self.losses.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
        return significance.at_least(-self.value, error, count, -bound)


def mean_losses(models: Sequence[Predictions]) -> list[MeanLoss]:
    """The mean losses of several models on the same images, with the same resamples."""

    def mean(losses: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return weights @ losses / weights.sum(axis=1)

    samples = resample(models[0].count, *(functools.partial(mean, model.loss) for model in models))
    return [MeanLoss(model.loss, found) for model, found in zip(models, samples, strict=True)]


def resample(count: int, *measures: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
    """The values [r] of each measure in all resamples of `count` images; a measure is given image weights [r, n]."""
    generator = np.random.default_rng(0)
    found: list[list[np.ndarray]] = [[] for _ in measures]
    size = max(1, min(_RESAMPLES, _CHUNK // max(count, 1)))
    for start in range(0, _RESAMPLES, size):
        weights = generator.poisson(1.0, (min(size, _RESAMPLES - start), count)).astype(float)
        weights[weights.sum(axis=1) == 0] = 1.0
        for measure, values in zip(measures, found, strict=True):
            values.append(measure(weights))
    return [np.concatenate(values) for values in found]
