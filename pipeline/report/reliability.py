"""Whether the model's probabilities can be trusted: the gate's calibration error, bin by bin."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import special

from components.evaluation.calibration import CalibrationBins
from components.evaluation.intervals import Interval, wilson
from components.evaluation.predictions import CALIBRATION_BINS, logits_of
from core.artifacts.predictions import CANDIDATE, Prediction, Scores


@dataclasses.dataclass(frozen=True)
class ReliabilityBin:
    """Test images whose predicted class got a probability between `low` and `high`; `confidence` is its mean."""

    low: float
    high: float
    confidence: float
    accuracy: Interval


@dataclasses.dataclass(frozen=True)
class Reliability:
    """How far probabilities can be trusted.

    Attributes:
        bins: of equal width, without the empty ones.
        error: the expected calibration error (Naeini et al. 2015, Guo et al. 2017).
        excess: mean confidence minus accuracy: above 0 the model is overconfident.
    """

    bins: list[ReliabilityBin]
    error: float
    excess: float


def error_before(predictions: Sequence[Prediction], scores: Scores, temperature: float) -> float | None:
    """The calibration error of the same predictions without the model's temperature.

    It is computed from the stored scores, whose bins are narrow enough; None if they are gone.
    """
    binned = scores.bins.get(CANDIDATE)
    if binned is None or len(binned) != len(predictions):
        return None
    confidence = special.softmax(temperature * special.log_expit(logits_of(binned)), axis=1).max(axis=1)
    return CalibrationBins.of(confidence, np.array([p.right for p in predictions], bool)).error


def reliability(predictions: Sequence[Prediction]) -> Reliability | None:
    """The candidate's reliability on the test split; None if there are no predictions."""
    if not predictions:
        return None
    found = CalibrationBins.of(
        np.array([p.probability for p in predictions]), np.array([p.right for p in predictions], bool)
    )
    right = found.images * (found.confidence - found.gap)
    columns = (found.number, found.confidence, np.rint(right).astype(int), found.images.astype(int))
    bins = [
        ReliabilityBin(number / CALIBRATION_BINS, (number + 1) / CALIBRATION_BINS, confidence, wilson(hits, images))
        for number, confidence, hits, images in zip(*(column.tolist() for column in columns), strict=True)
    ]
    return Reliability(bins, found.error, float(found.images @ found.gap / found.images.sum()))
