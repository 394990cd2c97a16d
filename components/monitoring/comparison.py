"""Compares production with the test split: what changed, by how much, and whether a bound is broken.

Shares are compared with Newcombe's interval for fractions of different images, means with the normal one, given at
least thirty images. A bound is broken if the whole interval lies beyond it, and kept if it lies within, at a confidence
corrected for the number of bounds (Bonferroni); the intervals shown each have the confidence in the settings.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import special

from components.evaluation.intervals import Interval, as_range, unpaired_change, wilson
from components.monitoring import label_shift
from core.artifacts.monitoring import ClassShare, Finding, Moments, Observation, Reference, State
from core.artifacts.verdict import Range
from core.errors import some

LEAST = 30
"""The fewest images about which anything is said."""

NOVEL = 0.95  # an image that is more novel than so many of the eval images counts as novel
_STATES: tuple[State, ...] = ("broken", "doubt", "kept", "unbounded", "too_few")


@dataclasses.dataclass(frozen=True)
class Compared:
    """What differs; broken bounds come first."""

    findings: list[Finding]
    classes: list[ClassShare]
    expected_accuracy: Range
    notes: list[str]


class Production:
    """A summary of any number of observations: counts, and a random sample of the probabilities."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.images = self.unreadable = self.with_novelty = self.novel = 0
        self.predicted = collections.Counter[str]()
        self.slices: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.classes = classes
        self._most = max(1, label_shift.CELLS // len(classes))
        self._sum = self._squares = 0.0
        self._sample: list[tuple[float, ...]] = []
        self._generator = np.random.default_rng(0)

    def add(self, one: Observation) -> None:
        """Counts an image."""
        self.images += 1
        for feature, value in one.slices.items():
            self.slices[feature][value] += 1
        if not one.probabilities:
            self.unreadable += 1
            return
        name, best = one.predicted(self.classes)
        self.predicted[name] += 1
        self._sum += best
        self._squares += best**2
        if one.novelty is not None:
            self.with_novelty += 1
            self.novel += one.novelty > NOVEL
        place = self.readable - 1 if self.readable <= self._most else int(self._generator.integers(self.readable))
        if place < self._most:  # Vitter's algorithm R
            self._sample[place : place + 1] = [one.probabilities]

    @property
    def readable(self) -> int:
        """How many images the model can read."""
        return self.images - self.unreadable

    @property
    def confidence(self) -> Moments:
        """Of the probability of the predicted class."""
        n = self.readable
        mean = self._sum / n if n else 0.0
        return Moments(mean, max(self._squares - n * mean**2, 0.0) / (n - 1) if n > 1 else 0.0)

    @property
    def probabilities(self) -> np.ndarray:
        """Float [n, k], of a random sample."""
        return np.array(self._sample, float).reshape(len(self._sample), len(self.classes))


@dataclasses.dataclass(frozen=True)
class _Change:
    """One compared quantity, with intervals at any confidence: its value before and now, and the change."""

    kind: str
    name: str
    images: int
    of: _Shares | _Means
    two_sided: bool = True


@dataclasses.dataclass(frozen=True)
class _Shares:
    before: tuple[int, int] | None
    now: tuple[int, int]
    expected: float = 0.0

    def ranges(self, confidence: float) -> tuple[Interval, Interval, Interval]:
        now = wilson(*self.now, confidence)
        fixed = Interval(self.expected, self.expected, self.expected, 0)
        before = wilson(*self.before, confidence) if self.before else fixed
        return before, now, unpaired_change(before, now)


@dataclasses.dataclass(frozen=True)
class _Means:
    before: Moments
    now: Moments
    counts: tuple[int, int]

    def ranges(self, confidence: float) -> tuple[Interval, Interval, Interval]:
        before, now = (
            _normal(one.mean, one.variance / count, count, confidence)
            for one, count in zip((self.before, self.now), self.counts, strict=True)
        )
        variance = sum(one.variance / n for one, n in zip((self.before, self.now), self.counts, strict=True))
        return before, now, _normal(now.value - before.value, variance, min(self.counts), confidence)


def compare(reference: Reference, production: Production) -> Compared:
    """Compares the summary of production with the test split."""
    bounds, notes = reference.bounds, list[str]()
    n = reference.overall.images
    if production.images < LEAST or n < LEAST:
        which, count = ("production", production.images) if production.images < LEAST else ("the test split", n)
        notes.append(f"{which} has {count} images, and {LEAST} are the least that anything is said of")
        return Compared([], [], Range(None), notes)
    changes = [*_slices(reference, production), _unreadable(reference, production)]
    changes += _of_predictions(reference, production)
    if production.with_novelty:
        now = (production.novel, production.with_novelty)
        changes.append(
            _Change(
                "novel", f"more novel than {NOVEL:.0%} of the eval images", now[1], _Shares(None, now, 1 - NOVEL), False
            )
        )
    else:
        notes.append("how novel the images are was not compared: the model does not say")
    bounded = sum(getattr(bounds, change.kind) is not None and change.images >= LEAST for change in changes)
    shared = 1 - (1 - bounds.confidence) / max(bounded, 1)
    findings = [_finding(change, getattr(bounds, change.kind), bounds.confidence, shared) for change in changes]
    findings.sort(key=lambda one: (_STATES.index(one.state), -abs(one.change.value or 0)))
    expected, classes = Range(None), _classes(reference, production)
    strange = [one.name for one in findings if one.kind in ("image_drift", "novel") and one.state == "broken"]
    if production.readable < LEAST or reference.readable < LEAST:
        notes.append(f"the model can read fewer than {LEAST} of the images: neither accuracy nor classes are estimated")
    elif strange:
        notes.append(
            f"neither accuracy nor classes are estimated: these images are of other kinds than the test split's "
            f"({some(strange, shown=3)}), and nobody knows what the model's probabilities are worth there; labels of "
            "label_next.csv measure it"
        )
    else:
        drop = _confidence(reference, production).ranges(bounds.confidence)[2]
        expected = _clipped(_sum(wilson(reference.overall.right, n, bounds.confidence), drop))
        least = label_shift.LEAST_PER_CLASS * len(reference.labels)
        if len(production.probabilities) >= least:
            classes = _estimated(classes, reference, production)
        else:
            most = len(production.probabilities)
            too_long = f", and of more than {most:,} it takes too long" if production.readable > most else ""
            notes.append(
                f"the classes' shares are not estimated: {least:,} images are the least for {len(classes):,} "
                f"classes{too_long}"
            )
    return Compared(findings, classes, expected, notes)


def measured_change(right: int, count: int, reference: Reference) -> Finding:
    """Accuracy measured with labels that arrived later, compared with the test split's."""
    bounds, overall = reference.bounds, reference.overall
    change = _Change(
        "accuracy_drop", "measured accuracy", count, _Shares((overall.right, overall.images), (right, count)), False
    )
    return _finding(change, bounds.accuracy_drop, bounds.confidence, bounds.confidence)


def _slices(reference: Reference, production: Production) -> Iterator[_Change]:
    for feature, values in reference.slices.items():
        found: Mapping[str, int] = production.slices.get(feature, {})
        before, now = sum(one.images for one in values.values()), sum(found.values())
        for value in sorted({*values, *found}) if before >= LEAST and now else ():
            images = values[value].images if value in values else 0
            yield _Change(
                "image_drift", f"{feature}={value}", now, _Shares((images, before), (found.get(value, 0), now))
            )


def _unreadable(reference: Reference, production: Production) -> _Change:
    n = reference.overall.images
    counts = (n - reference.readable, n), (production.unreadable, production.images)
    return _Change("unreadable", "images that the model cannot read", production.images, _Shares(*counts), False)


def _of_predictions(reference: Reference, production: Production) -> Iterator[_Change]:
    if reference.readable < LEAST or not production.readable:
        return
    for name, count in reference.predicted.items():
        counts = (count, reference.readable), (production.predicted[name], production.readable)
        yield _Change("class_drift", f"predicted as {name}", production.readable, _Shares(*counts))
    yield _Change("accuracy_drop", "mean confidence", production.readable, _confidence(reference, production), False)


def _confidence(reference: Reference, production: Production) -> _Means:
    return _Means(reference.confidence, production.confidence, (reference.readable, production.readable))


def _finding(change: _Change, bound: float | None, confidence: float, shared: float) -> Finding:
    if change.images < LEAST:
        nothing = Range(None)
        return Finding(change.kind, change.name, nothing, nothing, nothing, bound, "too_few")
    before, now, moved = change.of.ranges(confidence)
    state: State = "unbounded"
    if bound is not None:
        _, level, sure = change.of.ranges(shared)
        state = _state(change, bound, level, sure)
    return Finding(change.kind, change.name, as_range(before), as_range(now), as_range(moved), bound, state)


def _state(change: _Change, bound: float, level: Interval, moved: Interval) -> State:
    if change.kind in ("novel", "unreadable"):  # bounds of what is there now, not of a change
        low, high = level.low - bound, level.high - bound
    elif change.two_sided:
        nearest = 0.0 if moved.low <= 0 <= moved.high else min(abs(moved.low), abs(moved.high))
        low, high = nearest - bound, max(abs(moved.low), abs(moved.high)) - bound
    else:  # a drop
        low, high = -moved.high - bound, -moved.low - bound
    return "broken" if low > 0 else "kept" if high <= 0 else "doubt"


def _classes(reference: Reference, production: Production) -> list[ClassShare]:
    """The classes' shares, without estimates; those that changed most come first."""
    test, now = sum(reference.labels.values()), production.readable
    if not test or not now:
        return []
    shares = [
        ClassShare(name, count / test, production.predicted[name] / now, Range(None))
        for name, count in reference.labels.items()
    ]
    return sorted(shares, key=lambda one: -abs(one.predicted - one.test))


def _estimated(shares: Sequence[ClassShare], reference: Reference, production: Production) -> list[ClassShare]:
    before = {one.class_name: one.test for one in shares}
    if not before:
        return []
    prior = np.array([before[name] for name in production.classes])
    found = label_shift.estimate(production.probabilities, prior, reference.bounds.confidence)
    now = dict(zip(production.classes, found, strict=True))
    shares = [dataclasses.replace(one, estimated=now[one.class_name]) for one in shares]
    return sorted(shares, key=lambda one: -abs((one.estimated.value or 0) - one.test))


def _normal(value: float, variance: float, count: int, confidence: float) -> Interval:
    half = float(special.ndtri((1 + confidence) / 2)) * math.sqrt(variance)
    return Interval(value, value - half, value + half, count)


def _sum(one: Interval, other: Interval) -> Interval:
    """The sum of independent values, with limits like those of `unpaired_change`."""
    value = one.value + other.value
    low = value - math.hypot(one.value - one.low, other.value - other.low)
    high = value + math.hypot(one.high - one.value, other.high - other.value)
    return Interval(value, low, high, min(one.count, other.count))


def _clipped(one: Interval) -> Range:
    return Range(*(min(max(limit, 0.0), 1.0) for limit in (one.value, one.low, one.high)))
