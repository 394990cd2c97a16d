"""The expected calibration error and its uncertainty, given that chance alone always makes it positive.

The error is the mean distance between confidence and accuracy over bins, so a perfectly calibrated model shows one too,
which is larger for fewer images: 0.06 on 200 images for a model that is 65 % accurate. Taking it at face value would
refuse good models. So a bound counts as broken only if a model whose true error equals the bound would rarely show as
much on these images, chance included: in each bin the mean gap is roughly normal, its distance from 0 a folded normal,
and their mean over the bins roughly gamma-distributed. It counts as kept only if such a model would rarely show as
little even without the contribution of chance.
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
    """The non-empty bins, all [b]; `gap` is mean confidence minus accuracy."""

    number: np.ndarray
    images: np.ndarray
    confidence: np.ndarray
    gap: np.ndarray

    @classmethod
    def of(cls, confidence: np.ndarray, right: np.ndarray) -> CalibrationBins:
        """Bins images [n], given the probability of the predicted class and whether that class is right."""
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
    """The calibration error of one model's predictions."""

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
        """The error that such images show if the true one is `true`: its mean and variance, and the standard error it
        would have if the sign of every gap were known."""
        weight = self.bins.images / self.bins.images.sum()
        gap = self._gaps(true)
        noise = self._noise(gap)
        score = gap / noise
        folded = noise * math.sqrt(2 / math.pi) * np.exp(-(score**2) / 2) + gap * (1 - 2 * special.ndtr(-score))
        variance = float(weight**2 @ (gap**2 + noise**2 - folded**2))
        return float(weight @ folded), variance, float(np.linalg.norm(weight * noise))

    def interval(self, confidence: float) -> Interval:
        """Of the true error; extended to include the observed value, which is biased upward if there are few images."""
        return _interval(self.value, self.predictions.count, self.at_most, confidence, least=0.0, xtol=1e-4)

    def _gaps(self, true: float) -> np.ndarray:
        """Gaps like the observed ones without the part due to chance, scaled to an error of `true`."""
        likely, error = self._likely
        if error > 0:
            return likely * (true / error)
        return np.where(self.bins.gap < 0, -true, true)

    @functools.cached_property
    def _likely(self) -> tuple[np.ndarray, float]:
        """The observed gaps without the part due to chance, and the resulting error."""
        images, shown = self.bins.images, self.bins.gap
        likely = np.sign(shown) * np.sqrt(np.maximum(shown**2 - self._noise(shown) ** 2, 0.0))
        return likely, float(images / images.sum() @ np.abs(likely))

    def _noise(self, gap: np.ndarray) -> np.ndarray:
        """Standard deviation of the observed gap if `gap` is true; not 0 even if all images are right or wrong."""
        images = self.bins.images
        right = np.minimum(np.maximum(self.bins.confidence - gap, 0.0), 1.0)
        return np.sqrt((right * (1 - right) + 1 / (4 * images)) / images)


@dataclasses.dataclass(frozen=True)
class CalibrationRise:
    """The change of the error between two models.

    A score test, like Tango's for fractions: among all pairs of true errors that differ by the bound, it tests both the
    most likely pair and the lowest, and is as sure as the less sure of these. So a model that shows a larger error only
    by chance does not count as worse. It treats the images as independent, which is cautious if the models predict
    alike.
    """

    now: CalibrationError
    before: CalibrationError
    detail: str = ""

    @property
    def value(self) -> float:  # noqa: D102
        return self.now.value - self.before.value

    def worse_by_at_most(self, bound: float) -> PValues:
        """Combines the score test with Student's t on resamples, with and without correction for bias.

        The former ignores that both models saw the same images, the latter that chance inflates the error: all must
        agree.
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
        found = self._p_values(least, most)  # chance adds most here
        if excess(least) < 0 < excess(greatest):
            likely = float(optimize.brentq(excess, least, greatest, xtol=1e-3))
            return found.cautious(self._p_values(likely, most))
        return found

    def _p_values(self, before: float, most: float) -> PValues:
        """Tests a rise of `most`, assuming that the old model's true error is `before`."""
        mean, variance, error = self.now.shown(before + most)
        mean_before, variance_before, error_before = self.before.shown(before)
        score = (self.value - mean + mean_before) / math.sqrt(variance + variance_before)
        known = math.hypot(error, error_before)
        kept = max(special.ndtr(score), special.ndtr((self.value - most) / known))
        return PValues(float(special.ndtr(-score)), float(kept), known)

    def interval(self, confidence: float) -> Interval:
        """Of the true rise; extended to include the observed value."""
        return _interval(self.value, self.now.predictions.count, self.rise_at_most, confidence, least=-1.0, xtol=1e-3)


def _interval(
    value: float, count: int, test: Callable[[float], PValues], confidence: float, least: float, xtol: float
) -> Interval:
    """From the bound that would just count as broken to the one that would just count as kept, within `least` to 1."""

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
