"""Analyzes a failure: the mistakes on its slice, what they have in common, and which to look at."""

from __future__ import annotations

import collections
import dataclasses
import statistics
from collections.abc import Sequence

from scipy import stats

from core.artifacts.last_run import Failure
from core.artifacts.predictions import Prediction
from core.artifacts.verdict import OVERALL, Confusion
from core.settings.export import FORMATS
from pipeline.report.confusions import confused_pairs

_SHOWN_MISTAKES = 8
_TRAITS = 3
_RISK = 0.01  # of taking chance for a trait, over all values of all features


@dataclasses.dataclass(frozen=True)
class Trait:
    """A value (`brightness=dark`) significantly more frequent in a group (`count`) than outside it (`others`)."""

    name: str
    count: int
    others: int


@dataclasses.dataclass(frozen=True)
class FailureAnalysis:
    """What is behind one failure.

    Attributes:
        lost: how many of the mistakes the last blessed model got right; None if there is none to compare with.
        confusions: the mistakes by class, most frequent first.
        confidence: median probability of the wrong classes; None if there is no mistake.
        traits: what the mistakes have in common, unlike the slice's other images; most significant first.
        slice_traits: what the slice's images have in common, unlike the rest of the test split; most significant first.
        worst: the mistakes to show, in the gate's order if it has one, else the worst.
    """

    count: int
    mistakes: int
    lost: int | None
    confusions: list[Confusion]
    confidence: float | None
    traits: list[Trait]
    slice_traits: list[Trait]
    outside: int
    worst: list[Prediction]


def analyze(failure: Failure, predictions: Sequence[Prediction]) -> FailureAnalysis | None:
    """Analyzes one failure by the predictions for the whole test split; None if it has no slice."""
    if not failure.slice or failure.slice in FORMATS:
        return None
    members: list[Prediction] = []
    rest: list[Prediction] = []
    for prediction in predictions:
        inside = failure.slice == OVERALL or prediction.is_in(failure.slice)
        (members if inside else rest).append(prediction)
    wrong = [p for p in members if not p.right]
    compared = any(p.baseline for p in members)
    place = {path: number for number, path in enumerate(failure.images)}
    worst = sorted(wrong, key=lambda p: (place.get(p.path, len(place)), p.label_probability, p.path))
    return FailureAnalysis(
        count=len(members),
        mistakes=len(wrong),
        lost=sum(p.baseline is not None and p.baseline.predicted == p.label for p in wrong) if compared else None,
        confusions=confused_pairs(wrong),
        confidence=statistics.median(p.probability for p in wrong) if wrong else None,
        traits=traits(wrong, [p for p in members if p.right]),
        slice_traits=[t for t in traits(members, rest) if t.name not in failure.slice],
        outside=len(rest),
        worst=worst[:_SHOWN_MISTAKES],
    )


def traits(some: Sequence[Prediction], others: Sequence[Prediction]) -> list[Trait]:
    """Classes and values of slice features that some images have significantly more often than others.

    Uses Fisher's exact test, one-sided, with Bonferroni's correction for the number of values.
    """
    counts = collections.Counter(value for p in some for value in _values(p))
    counts_others = collections.Counter(value for p in others for value in _values(p))
    found = []
    for name, count in sorted(counts.items()):
        table = [[count, len(some) - count], [counts_others[name], len(others) - counts_others[name]]]
        p_value = float(stats.fisher_exact(table, alternative="greater")[1])
        if p_value * len(counts) <= _RISK:
            found.append((p_value, Trait(name, count, counts_others[name])))
    return [trait for _, trait in sorted(found, key=lambda pair: (pair[0], pair[1].name))[:_TRAITS]]


def _values(prediction: Prediction) -> set[str]:
    return {f"label={prediction.label}", *(f"{name}={value}" for name, value in prediction.slices.items())}
