"""Numbers a report derives from the answers for single images: calibration and confusions. Pure functions."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

from components.evaluation.intervals import Interval, wilson
from core.artifacts.predictions import Prediction

_BINS = 10


@dataclasses.dataclass(frozen=True)
class Bin:
    """Images whose predicted class got a probability between `low` and `high`."""

    low: float
    high: float
    confidence: float
    accuracy: Interval


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How far probabilities can be trusted.

    Attributes:
        bins: of equal width, without the empty ones.
        error: the expected calibration error: the mean distance of confidence and accuracy, weighted by the images in
            the bin (Naeini et al. 2015, Guo et al. 2017).
        excess: mean confidence minus accuracy: above 0 the model promises too much.
    """

    bins: list[Bin]
    error: float
    excess: float


@dataclasses.dataclass(frozen=True)
class Pair:
    """Images of class `label` that were taken for `predicted`."""

    label: str
    predicted: str
    count: int
    share: float


def calibration(predictions: Sequence[Prediction]) -> Calibration | None:
    """By ten bins; None if there are no predictions."""
    if not predictions:
        return None
    groups: dict[int, list[Prediction]] = collections.defaultdict(list)
    for prediction in predictions:
        groups[min(int(prediction.probability * _BINS), _BINS - 1)].append(prediction)
    bins = []
    for number, group in sorted(groups.items()):
        confidence = sum(p.probability for p in group) / len(group)
        accuracy = wilson(sum(p.right for p in group), len(group))
        bins.append(Bin(number / _BINS, (number + 1) / _BINS, confidence, accuracy))
    gaps = [(b.accuracy.count / len(predictions), b.confidence - b.accuracy.value) for b in bins]
    return Calibration(bins, sum(weight * abs(gap) for weight, gap in gaps), sum(weight * gap for weight, gap in gaps))


def confusion(predictions: Sequence[Prediction], classes: Sequence[str]) -> list[list[int]]:
    """Counts: a row for each true class, a column for each predicted one; other classes are left out."""
    place = {name: i for i, name in enumerate(classes)}
    counts = [[0] * len(classes) for _ in classes]
    for prediction in predictions:
        if prediction.label in place and prediction.predicted in place:
            counts[place[prediction.label]][place[prediction.predicted]] += 1
    return counts


def confused_pairs(predictions: Sequence[Prediction]) -> list[Pair]:
    """The mistakes by true and predicted class, most frequent first; `share` is of the true class's images."""
    totals = collections.Counter(p.label for p in predictions)
    mistakes = collections.Counter((p.label, p.predicted) for p in predictions if not p.right)
    return [
        Pair(label, predicted, count, count / totals[label])
        for (label, predicted), count in sorted(mistakes.items(), key=lambda item: (-item[1], item[0]))
    ]
