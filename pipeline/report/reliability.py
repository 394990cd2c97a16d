"""Whether the model's probabilities can be trusted, bin by bin: the gate's calibration error, in detail."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from components.evaluation import measures
from components.evaluation.calibration import calibration
from components.evaluation.intervals import Interval, wilson
from core.artifacts.predictions import Prediction

_BINS = 10  # as the gate has them


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
        error: the expected calibration error: the mean distance of confidence and accuracy, weighted by the images in
            the bin (Naeini et al. 2015, Guo et al. 2017).
        excess: mean confidence minus accuracy: above 0 the model is overconfident.
    """

    bins: list[ReliabilityBin]
    error: float
    excess: float


def reliability(predictions: Sequence[Prediction]) -> Reliability | None:
    """Of the candidate on the test split; None if there are no predictions."""
    if not predictions:
        return None
    labels = [p.label for p in predictions]
    numbers = {name: n for n, name in enumerate({*labels, *(p.predicted for p in predictions)})}
    columns = measures.columns(labels, [p.answer for p in predictions], numbers)
    found = calibration(columns)
    right = np.rint(found.images * (found.confidence - found.gap))
    bins = [
        ReliabilityBin(number / _BINS, (number + 1) / _BINS, float(confidence), wilson(int(hits), int(count)))
        for number, confidence, hits, count in zip(
            np.unique(measures.bins_of(columns.confidence)).tolist(), found.confidence, right, found.images, strict=True
        )
    ]
    return Reliability(bins, found.value, float(found.images @ found.gap / found.images.sum()))
