"""The mean loss: how sure it is, by resampling the images (Poisson bootstrap, Hanley and MacGibbon 2006)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from components.evaluation import significance
from components.evaluation.intervals import Interval
from components.evaluation.predictions import Predictions
from components.evaluation.significance import PValues

_RESAMPLES = 1000
_CHUNK = 4_000_000  # weights held at a time: 32 MB


@dataclasses.dataclass(frozen=True)
class MeanLoss:
    """Of n images: their losses [n], and the mean in every resample [r]."""

    losses: np.ndarray
    samples: np.ndarray

    @property
    def value(self) -> float:  # noqa: D102
        return float(self.losses.mean())

    def interval(self, confidence: float) -> Interval:  # noqa: D102
        return _percentiles(self.value, self.samples, confidence, len(self.losses))

    def at_least(self, bound: float) -> PValues:
        """Student's t; without the bias that resampling shows."""
        corrected, error = 2 * self.value - float(self.samples.mean()), float(self.samples.std(ddof=1))
        return significance.at_least(corrected, error, len(self.losses), bound)

    def change_from(self, before: MeanLoss) -> MeanLossChange:  # noqa: D102
        return MeanLossChange(self.losses - before.losses, self.samples - before.samples)


@dataclasses.dataclass(frozen=True)
class MeanLossChange:
    """By how much each image costs more [n], and the mean of that in every resample [r]."""

    more: np.ndarray
    samples: np.ndarray
    detail: str = ""

    @property
    def value(self) -> float:  # noqa: D102
        return float(self.more.mean())

    def interval(self, confidence: float) -> Interval:  # noqa: D102
        return _percentiles(self.value, self.samples, confidence, len(self.more))

    def worse_by_at_most(self, bound: float) -> PValues:
        """Student's t of pairs."""
        count = len(self.more)
        error = float(self.more.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
        return significance.at_least(-self.value, error, count, -bound)


def mean_losses(models: Sequence[Predictions]) -> list[MeanLoss]:
    """Of several models' predictions for the same images, resampled alike."""

    def mean(losses: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return lambda weights: weights @ losses / weights.sum(axis=1)

    samples = resample(models[0].count, *(mean(model.loss) for model in models))
    return [MeanLoss(model.loss, found) for model, found in zip(models, samples, strict=True)]


def resample(count: int, *measures: Callable[[np.ndarray], np.ndarray], seed: int = 0) -> list[np.ndarray]:
    """Measures on images that are weighted at random.

    Args:
        count: of images.
        measures: of weights [r, n], values [r].
        seed: of the weights, which are the same for all measures.

    Returns:
        For each measure its values in all resamples [r].
    """
    generator = np.random.default_rng(seed)
    found: list[list[np.ndarray]] = [[] for _ in measures]
    for size in _chunks(count):
        weights = generator.poisson(1.0, (size, count)).astype(float)
        weights[weights.sum(axis=1) == 0] = 1.0
        for measure, values in zip(measures, found, strict=True):
            values.append(measure(weights))
    return [np.concatenate(values) for values in found]


def _chunks(count: int) -> Iterator[int]:
    size = max(1, min(_RESAMPLES, _CHUNK // max(count, 1)))
    for start in range(0, _RESAMPLES, size):
        yield min(size, _RESAMPLES - start)


def _percentiles(value: float, samples: np.ndarray, confidence: float, count: int) -> Interval:
    """The percentile interval, which holds the value."""
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, min(float(low), value), max(float(high), value), count)
