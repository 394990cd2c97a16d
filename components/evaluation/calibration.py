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
import math
from collections.abc import Callable

import numpy as np
from scipy import optimize, special

from components.evaluation.intervals import Interval
from components.evaluation.measures import Answers, bins_of
from components.evaluation.significance import Evidence


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Sums over the bins that have images, [b].

    Attributes:
        images: how many.
        confidence: the mean.
        gap: the mean of confidence minus right answers.
    """

    images: np.ndarray
    confidence: np.ndarray
    gap: np.ndarray

    @property
    def value(self) -> float:
        """The error as it shows."""
        return float(self.images @ np.abs(self.gap) / self.images.sum())

    def evidence(self, bound: float) -> Evidence:
        """Tests that the true error is at most `bound`."""
        mean, variance, error = self.shown(bound)
        return Evidence(
            float(special.gammaincc(mean**2 / variance, self.value * mean / variance)),
            float(special.ndtr((self.value - bound) / error)),
            error,
        )

    def shown(self, true: float) -> tuple[float, float, float]:
        """What such images show of an error that is truly `true`.

        Returns:
            Mean and variance; and the standard error that they would have if the sign of every gap were known.
        """
        share = self.images / self.images.sum()
        gap = self._gaps(true)
        noise = self._noise(gap)
        score = gap / noise
        folded = noise * math.sqrt(2 / math.pi) * np.exp(-(score**2) / 2) + gap * (1 - 2 * special.ndtr(-score))
        variance = float(share**2 @ (gap**2 + noise**2 - folded**2))
        return float(share @ folded), variance, float(np.linalg.norm(share * noise))

    def interval(self, confidence: float) -> Interval:
        """Of the true error; stretched to hold the value that shows, which lies too high where images are few."""
        low, high = _limits(self.evidence, confidence, least=0.0, xtol=1e-4)
        return Interval(self.value, min(low, self.value), max(high, self.value), int(self.images.sum()))

    def _gaps(self, true: float) -> np.ndarray:
        """Gaps like those that were seen, without what chance added to them, that come to an error of `true`."""
        likely = np.sign(self.gap) * np.sqrt(np.maximum(self.gap**2 - self._noise(self.gap) ** 2, 0.0))
        share = self.images / self.images.sum()
        error = float(share @ np.abs(likely))
        if error > 0:
            return likely * true / error
        return np.where(self.gap < 0, -true, true)

    def _noise(self, gap: np.ndarray) -> np.ndarray:
        """Standard deviation of what is seen where `gap` is true; not 0 where all images are right or wrong."""
        right = np.clip(self.confidence - gap, 0.0, 1.0)
        return np.sqrt((right * (1 - right) + 1 / (4 * self.images)) / self.images)


@dataclasses.dataclass(frozen=True)
class CalibrationRise:
    """The change of the error between two models.

    A score test, as Tango's is of shares: of all true errors that differ by the bound, those are taken that best
    agree with what shows, and the least, whichever is less sure. So a model that only shows more, because chance adds
    more to it, is not taken for a worse one. As if they had been asked about different images: cautious where they
    answer alike.

    Attributes:
        now: the new model's.
        before: the old one's.
    """

    now: Calibration
    before: Calibration

    @property
    def value(self) -> float:
        """As it shows."""
        return self.now.value - self.before.value

    def evidence(self, most: float) -> Evidence:
        """Tests that the true error rises by at most `most`, from -1 to 1."""
        total = self.now.value + self.before.value

        def excess(before: float) -> float:
            return self.now.shown(before + most)[0] + self.before.shown(before)[0] - total

        least, greatest = max(0.0, -most), min(1.0, 1.0 - most)
        found = self._evidence(least, most)  # where chance adds most
        if excess(least) < 0 < excess(greatest):
            likely = float(optimize.brentq(excess, least, greatest, xtol=1e-3))
            return found.cautious(self._evidence(likely, most))
        return found

    def _evidence(self, before: float, most: float) -> Evidence:
        """If the old model's true error is `before`."""
        mean, variance, error = self.now.shown(before + most)
        mean_before, variance_before, error_before = self.before.shown(before)
        score = (self.value - mean + mean_before) / math.sqrt(variance + variance_before)
        known = math.hypot(error, error_before)
        kept = max(special.ndtr(score), special.ndtr((self.value - most) / known))
        return Evidence(float(special.ndtr(-score)), float(kept), known)

    def interval(self, confidence: float) -> Interval:
        """Of the true rise; stretched to hold the value that shows."""
        low, high = _limits(self.evidence, confidence, least=-1.0, xtol=1e-3)
        count = int(self.now.images.sum())
        return Interval(self.value, min(low, self.value), max(high, self.value), count)


def _limits(evidence: Callable[[float], Evidence], confidence: float, least: float, xtol: float) -> tuple[float, float]:
    """The bounds, from `least` to 1, that would just be called broken and just be called kept; else the ends."""

    def limit(chance: str, end: float) -> float:
        def excess(bound: float) -> float:
            return float(getattr(evidence(bound), chance)) - (1 - confidence) / 2

        if excess(least) * excess(1.0) > 0:
            return end
        return float(optimize.brentq(excess, least, 1.0, xtol=xtol))

    return limit("broken", least), limit("kept", 1.0)


def calibration(answers: Answers) -> Calibration:
    """The bins of a model's answers."""
    bins = bins_of(answers.confidence)
    images = np.bincount(bins).astype(float)
    right = np.bincount(bins, answers.predicted == answers.label)
    confidence = np.bincount(bins, answers.confidence)
    there = images > 0
    images, right, confidence = images[there], right[there], confidence[there]
    return Calibration(images, confidence / images, (confidence - right) / images)
