"""What is behind a broken bound: the mistakes on its slice, what they have in common, and pictures to judge them by."""

from __future__ import annotations

import collections
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from core.artifacts.predictions import Prediction
from core.artifacts.verdict import OVERALL
from pipeline.report.facts import Data, Evidence, Picture, Trait

PICTURES = 8
"""Of mistakes, for each failure."""

_TRAITS = 3
_RISK = 0.01  # of calling chance a trait, all values of all features taken together


def wanted(failures: Sequence[Mapping[str, Any]], predictions: Sequence[Prediction]) -> set[str]:
    """Paths of the test images that `behind` will show."""
    return {p.path for failure in failures if failure.get("slice") for p in _telling(failure, predictions)}


def classes(failures: Sequence[Mapping[str, Any]], predictions: Sequence[Prediction]) -> list[str]:
    """Classes whose pictures to train on `behind` will show."""
    found = [
        name
        for failure in failures
        if failure.get("slice")
        for label, predicted, _ in _taken_for(_wrong(failure, predictions))[:1]
        for name in (label, predicted)
    ]
    return list(dict.fromkeys(found))


def behind(
    failure: Mapping[str, Any],
    predictions: Sequence[Prediction],
    pictures: Mapping[str, Picture],
    data: Data | None,
) -> Evidence | None:
    """The evidence for one failure.

    Args:
        failure: of the gate; others have no slice, and no evidence.
        predictions: for the whole test split.
        pictures: of test images, by path, as far as they were found.
        data: what was trained on.
    """
    if not failure.get("slice"):
        return None
    members = [p for p in predictions if _is_in(p, failure["slice"])]
    rest = [p for p in predictions if not _is_in(p, failure["slice"])]
    wrong = [p for p in members if not p.right]
    confused = _taken_for(wrong)
    trained = {c.name: c.splits.get("train") for c in data.classes} if data else {}
    samples = data.samples if data else {}
    compared = any(p.baseline for p in members)
    return Evidence(
        count=len(members),
        mistakes=len(wrong),
        lost=sum(_lost(p) for p in wrong) if compared else None,
        taken_for=confused,
        confidence=statistics.median(p.probability for p in wrong) if wrong else None,
        traits=traits(wrong, [p for p in members if p.right]),
        apart=[t for t in traits(members, rest) if t.name not in failure["slice"]],
        outside=len(rest),
        pictures=[(p, pictures[p.path]) for p in _telling(failure, predictions) if p.path in pictures],
        learned=[
            (name, trained.get(name), samples[name])
            for name in (confused[0][:2] if confused else ())
            if name in samples
        ],
    )


def traits(some: Sequence[Prediction], others: Sequence[Prediction]) -> list[Trait]:
    """Classes and values of slice features that some images have more often than others, beyond chance.

    By Fisher's exact test, one-sided, with Bonferroni's correction for the number of values.
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


def _is_in(prediction: Prediction, name: str) -> bool:
    return name == OVERALL or prediction.is_in(name)


def _wrong(failure: Mapping[str, Any], predictions: Sequence[Prediction]) -> list[Prediction]:
    return [p for p in predictions if not p.right and _is_in(p, failure["slice"])]


def _telling(failure: Mapping[str, Any], predictions: Sequence[Prediction]) -> list[Prediction]:
    """The mistakes to show: as the gate ordered them, else the worst."""
    wrong = _wrong(failure, predictions)
    place = {path: number for number, path in enumerate(failure.get("pictures", []))}
    return sorted(wrong, key=lambda p: (place.get(p.path, len(place)), p.label_probability, p.path))[:PICTURES]


def _taken_for(wrong: Sequence[Prediction]) -> list[tuple[str, str, int]]:
    counts = collections.Counter((p.label, p.predicted) for p in wrong)
    return [(*pair, count) for pair, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _lost(prediction: Prediction) -> bool:
    return prediction.baseline is not None and prediction.baseline.predicted == prediction.label
