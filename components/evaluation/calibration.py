"""The expected calibration error: how sure it is, although it is never 0 by chance.

The error is the mean distance of confidence and accuracy over bins, so a perfectly calibrated model shows an error too,
the larger the fewer the images: 200 images of a model that is right about 65 % show 0.06. Whoever took that for the
model's own would refuse good models. So a bound is called broken only where a model whose true error lies at the bound
would hardly show as much on these images, chance included: in each bin the mean gap is about normal, its distance from
0 a folded normal, and their mean over the bins about a gamma distribution. It is called kept only where such a model
would hardly show as little even if chance added nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
from scipy import optimize, special

from components.evaluation import significance
from components.evaluation.intervals import Interval
from components.evaluation.mean_loss import resample
from components.evaluation.predictions import CALIBRATION_BINS, Predictions, calibration_bins
from components.evaluation.significance import PValues


@dataclasses.dataclass(frozen=True)
class CalibrationBins:
    """The bins that have images, all [b]; `gap` is the mean of confidence minus right predictions."""

    number: np.ndarray
    images: np.ndarray
    confidence: np.ndarray
    gap: np.ndarray

    @classmethod
    def of(cls, confidence: np.ndarray, right: np.ndarray) -> CalibrationBins:
        """Of images [n]: the probability of the predicted class, and whether that is the true one."""
        bins = calibration_bins(confidence)
        images = np.bincount(bins).astype(float)
        present = np.flatnonzero(images)
        images = images[present]
        right, confidence = np.bincount(bins, right)[present], np.bincount(bins, confidence)[present]
        return cls(present, images, confidence / images, (confidence - right) / images)

    @property
    def error(self) -> float:
        """The expected calibration error."""
        return float(self.images @ np.abs(self.gap) / self.images.sum())


@dataclasses.dataclass(frozen=True)
class CalibrationError:
    """Of one model, by its predictions."""

    predictions: Predictions

    @functools.cached_property
    def bins(self) -> CalibrationBins:  # noqa: D102
        return CalibrationBins.of(self.predictions.confidence, self.predictions.right)

    @property
    def value(self) -> float:  # noqa: D102
        return self.bins.error

    def change_from(self, before: CalibrationError) -> CalibrationRise:  # noqa: D102
        return CalibrationRise(self, before)

    def at_least(self, bound: float) -> PValues:  # noqa: D102
        return self.at_most(bound).reversed()

    def at_most(self, bound: float) -> PValues:
        """Tests that the true error is at most `bound`."""
        mean, variance, error = self.shown(bound)
        return PValues(
            float(special.gammaincc(mean**2 / variance, self.value * mean / variance)),
            float(special.ndtr((self.value - bound) / error)),
            error,
        )

    def shown(self, true: float) -> tuple[float, float, float]:
        """What such images show of an error that is truly `true`: mean, variance, and the standard error that it would
        have if the sign of every gap were known."""
        weight = self.bins.images / self.bins.images.sum()
        gap = self._gaps(true)
        noise = self._noise(gap)
        score = gap / noise
        folded = noise * math.sqrt(2 / math.pi) * np.exp(-(score**2) / 2) + gap * (1 - 2 * special.ndtr(-score))
        variance = float(weight**2 @ (gap**2 + noise**2 - folded**2))
        return float(weight @ folded), variance, float(np.linalg.norm(weight * noise))

    def interval(self, confidence: float) -> Interval:
        """Of the true error; stretched to hold the value that shows, which lies too high where images are few."""
        return _interval(self.value, self.predictions.count, self.at_most, confidence, least=0.0, xtol=1e-4)

    def _gaps(self, true: float) -> np.ndarray:
        """Gaps like those that were seen, without what chance added to them, that come to an error of `true`."""
        likely, error = self._likely
        if error > 0:
            return likely * (true / error)
        return np.where(self.bins.gap < 0, -true, true)

    @functools.cached_property
    def _likely(self) -> tuple[np.ndarray, float]:
        """The gaps without what chance added, and the error that they come to."""
        images, shown = self.bins.images, self.bins.gap
        likely = np.sign(shown) * np.sqrt(np.maximum(shown**2 - self._noise(shown) ** 2, 0.0))
        return likely, float(images / images.sum() @ np.abs(likely))

    def _noise(self, gap: np.ndarray) -> np.ndarray:
        """Standard deviation of what is seen where `gap` is true; not 0 where all images are right or wrong."""
        images = self.bins.images
        right = np.minimum(np.maximum(self.bins.confidence - gap, 0.0), 1.0)
        return np.sqrt((right * (1 - right) + 1 / (4 * images)) / images)


@dataclasses.dataclass(frozen=True)
class CalibrationRise:
    """The change of the error between two models.

    A score test, as Tango's is of fractions: of all true errors that differ by the bound, those are taken that best
    agree with what shows, and the least, whichever is less sure. So a model that only shows more, because chance adds
    more to it, is not taken for a worse one. As if the images were different ones: cautious where the models predict
    alike.
    """

    now: CalibrationError
    before: CalibrationError
    detail: str = ""

    @property
    def value(self) -> float:  # noqa: D102
        return self.now.value - self.before.value

    def worse_by_at_most(self, bound: float) -> PValues:
        """By the score test, and by Student's t of resamples, with and without their correction for bias.

        The one forgets that both models saw the same images, the other that chance adds to what shows: all must be
        sure.
        """
        now, before = (_resampled(error.predictions) for error in (self.now, self.before))
        count = self.now.predictions.count
        (samples,) = resample(count, lambda weights: now(weights) - before(weights))
        corrected, error = 2 * self.value - float(samples.mean()), float(samples.std(ddof=1))
        return self.rise_at_most(bound).cautious(
            *(significance.at_least(-rise, error, count, -bound) for rise in (self.value, corrected))
        )

    def rise_at_most(self, most: float) -> PValues:
        """Tests that the true error rises by at most `most`, from -1 to 1."""
        total = self.now.value + self.before.value

        def excess(before: float) -> float:
            return self.now.shown(before + most)[0] + self.before.shown(before)[0] - total

        least, greatest = max(0.0, -most), min(1.0, 1.0 - most)
        found = self._p_values(least, most)  # where chance adds most
        if excess(least) < 0 < excess(greatest):
            likely = float(optimize.brentq(excess, least, greatest, xtol=1e-3))
            return found.cautious(self._p_values(likely, most))
        return found

    def _p_values(self, before: float, most: float) -> PValues:
        """If the old model's true error is `before`."""
        mean, variance, error = self.now.shown(before + most)
        mean_before, variance_before, error_before = self.before.shown(before)
        score = (self.value - mean + mean_before) / math.sqrt(variance + variance_before)
        known = math.hypot(error, error_before)
        kept = max(special.ndtr(score), special.ndtr((self.value - most) / known))
        return PValues(float(special.ndtr(-score)), float(kept), known)

    def interval(self, confidence: float) -> Interval:
        """Of the true rise; stretched to hold the value that shows."""
        return _interval(self.value, self.now.predictions.count, self.rise_at_most, confidence, least=-1.0, xtol=1e-3)


def _interval(
    value: float, count: int, test: Callable[[float], PValues], confidence: float, least: float, xtol: float
) -> Interval:
    """From the bound that would just be called broken to the one that would just be called kept; `least` to 1."""

    def limit(chance: str, end: float) -> float:
        def excess(bound: float) -> float:
            return float(getattr(test(bound), chance)) - (1 - confidence) / 2

        if excess(least) * excess(1.0) > 0:
            return end
        return float(optimize.brentq(excess, least, 1.0, xtol=xtol))

    return Interval(value, min(limit("broken", least), value), max(limit("kept", 1.0), value), count)


def _resampled(predictions: Predictions) -> Callable[[np.ndarray], np.ndarray]:
    """The error for weights of the images [r, n]: float [r]."""
    in_bin = calibration_bins(predictions.confidence)[:, None] == np.arange(CALIBRATION_BINS)
    gaps = in_bin * (predictions.confidence - predictions.right)[:, None]
    return lambda weights: np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1)
