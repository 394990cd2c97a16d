"""Confidence intervals in closed form: of fractions, F1, areas under ROC curves, and changes on the same images."""

from __future__ import annotations

import dataclasses
import math

from scipy import optimize, special

from core.artifacts.verdict import Range

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """A value with its confidence limits, estimated from `count` images."""

    value: float
    low: float
    high: float
    count: int


def as_range(interval: Interval | None) -> Range:
    """An interval as artifacts store it; a Range of None if it is unknown."""
    return Range(interval.value, interval.low, interval.high) if interval else Range(None)


def wilson(successes: float, count: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval (1927) of a fraction; good for small counts and fractions near 0 or 1.

    Raises:
        ValueError: there are no images, or more successes than images.
    """
    if count < 1 or not 0 <= successes <= count:
        raise ValueError(f"{successes} of {count} is not a fraction")
    z = _z(confidence)
    fraction = successes / count
    scale = 1 + z**2 / count
    center = (fraction + z**2 / (2 * count)) / scale
    half = z / scale * math.sqrt(fraction * (1 - fraction) / count + z**2 / (4 * count**2))
    return Interval(fraction, max(0.0, min(fraction, center - half)), min(1.0, max(fraction, center + half)), count)


def f1(hits: int, predicted: int, true: int, confidence: float = CONFIDENCE) -> Interval:
    """F1 of one class: 2J / (1 + J) with J = hits / (predicted or true), a fraction, so Wilson's limits carry over."""
    jaccard = wilson(hits, predicted + true - hits, confidence)
    value, low, high = (2 * j / (1 + j) for j in (jaccard.value, jaccard.low, jaccard.high))
    return Interval(value, low, high, jaccard.count)


def auc(area: float, positives: int, negatives: int, confidence: float = CONFIDENCE) -> Interval:
    """Limits of an area under a ROC curve after Hanley and McNeil (1982), on the logit scale.

    At an area of 0 or 1, where the formula gives no variance, the limits are those of an area half a pair away.
    """
    pairs = positives * negatives
    inner = min(max(area, 0.5 / pairs), 1 - 0.5 / pairs)
    q1, q2 = inner / (2 - inner), 2 * inner**2 / (1 + inner)
    variance = (inner * (1 - inner) + (positives - 1) * (q1 - inner**2) + (negatives - 1) * (q2 - inner**2)) / pairs
    half = _z(confidence) * math.sqrt(max(variance, 0.0)) / (inner * (1 - inner))
    logit = math.log(inner / (1 - inner))
    low, high = (1 / (1 + math.exp(-x)) for x in (logit - half, logit + half))
    return Interval(area, min(low, area), max(high, area), positives + negatives)


def paired_change(gained: int, lost: int, count: int, confidence: float = CONFIDENCE) -> Interval:
    """Tango's score interval (1998) of a change; only the new model gets `gained` images right, only the old `lost`."""
    z, change = _z(confidence), (gained - lost) / count

    def limit(inside: float, outside: float, sign: int) -> float:
        def distance(delta: float) -> float:
            return tango_score(gained, lost, count, delta) - sign * z

        return optimize.brentq(distance, inside, outside) if distance(inside) * distance(outside) < 0 else outside

    edge = 1 - 1e-9
    return Interval(change, limit(change, -edge, 1), limit(change, edge, -1), count)


def unpaired_change(before: Interval, after: Interval) -> Interval:
    """The difference between metrics measured on different images, from their intervals.

    For fractions with Wilson intervals this is Newcombe's method 10 (1998); Zou and Donner (2008) generalize it.
    """
    change = after.value - before.value
    low = change - math.hypot(after.value - after.low, before.high - before.value)
    high = change + math.hypot(after.high - after.value, before.value - before.low)
    return Interval(change, low, high, min(before.count, after.count))


def tango_score(gained: int, lost: int, count: int, delta: float, correction: float = 0.0) -> float:
    """How many standard errors the change lies above `delta`, by the likelihood's score at `delta`.

    Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample design
    (Statistics in Medicine 17, 1998). At `delta` 0 it is McNemar's statistic. `correction`, for continuity, is added to
    the number of images gained.
    """
    a = 2 * count
    b = -gained - lost + (2 * count - gained + lost) * delta
    c = -lost * delta * (1 - delta)
    only_old = (math.sqrt(max(b**2 - 4 * a * c, 0.0)) - b) / (2 * a)  # the most likely fraction of `lost` at `delta`
    variance = count * (2 * only_old + delta * (1 - delta))
    return (gained - lost - count * delta + correction) / math.sqrt(variance) if variance > 0 else 0.0


def _z(confidence: float) -> float:
    return float(special.ndtri((1 + confidence) / 2))
