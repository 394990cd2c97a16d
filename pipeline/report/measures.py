"""Numbers a report derives from the answers for single images: intervals, calibration, confusions. Pure functions."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence

from components.prediction import Prediction

_Z = 1.959964  # of 95 %
_BINS = 10


@dataclasses.dataclass(frozen=True)
class Interval:
    """A share with its 95 % confidence limits, all from 0 to 1."""

    value: float
    low: float
    high: float
    count: int


@dataclasses.dataclass(frozen=True)
class Bin:
    """Images whose predicted class got a probability between `low` and `high`."""

    low: float
    high: float
    confidence: float
    accuracy: Interval


@dataclasses.dataclass(frozen=True)
class Pair:
    """Images of class `label` that were taken for `predicted`."""

    label: str
    predicted: str
    count: int
    share: float


def wilson(successes: float, count: int) -> Interval:
    """Wilson's score interval (1927) of a share; good for small counts and shares near 0 or 1.

    Raises:
        ValueError: there are no images, or more successes than images.
    """
    if count < 1 or not 0 <= successes <= count:
        raise ValueError(f"{successes} of {count} is no share")
    share = successes / count
    scale = 1 + _Z**2 / count
    centre = (share + _Z**2 / (2 * count)) / scale
    half = _Z / scale * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), count)


def calibration(predictions: Sequence[Prediction]) -> tuple[list[Bin], float]:
    """How far probabilities can be trusted.

    Returns:
        Ten bins of equal width, without the empty ones, and the expected calibration error: the mean distance of
        confidence and accuracy, weighted by the images in the bin (Naeini et al. 2015, Guo et al. 2017).
    """
    groups: dict[int, list[Prediction]] = collections.defaultdict(list)
    for prediction in predictions:
        groups[min(int(prediction.probability * _BINS), _BINS - 1)].append(prediction)
    bins = []
    for number, group in sorted(groups.items()):
        confidence = sum(p.probability for p in group) / len(group)
        accuracy = wilson(sum(p.right for p in group), len(group))
        bins.append(Bin(number / _BINS, (number + 1) / _BINS, confidence, accuracy))
    error = sum(b.accuracy.count * abs(b.accuracy.value - b.confidence) for b in bins) / max(len(predictions), 1)
    return bins, error


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


def f1_by_class(predictions: Sequence[Prediction]) -> dict[str, tuple[float | None, float | None, float | None]]:
    """Precision, recall and F1 of every class that occurs; None where the class was never predicted or never true."""
    true, told = (
        collections.Counter(p.label for p in predictions),
        collections.Counter(p.predicted for p in predictions),
    )
    hits = collections.Counter(p.label for p in predictions if p.right)
    result: dict[str, tuple[float | None, float | None, float | None]] = {}
    for name in sorted(true.keys() | told.keys()):
        precision = hits[name] / told[name] if told[name] else None
        recall = hits[name] / true[name] if true[name] else None
        result[name] = (precision, recall, 2 * hits[name] / (told[name] + true[name]))
    return result
