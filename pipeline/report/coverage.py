"""Accuracy on the test images that the model is surest of, and which test images are novel to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from components.evaluation.intervals import Interval, wilson
from core.artifacts.predictions import Prediction

_NOVEL = 6  # images
_POINTS = 100  # of the curve
_LEAST_COVERAGE = 0.05  # on it: fewer images say nothing
_FRACTIONS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)  # in the table
_RANKS = (0.5, 0.9, 0.99)


@dataclasses.dataclass(frozen=True)
class CoveragePoint:
    """Accuracy on the test images with at least this probability; `coverage` is their fraction."""

    coverage: float
    probability: float
    accuracy: Interval


@dataclasses.dataclass(frozen=True)
class Coverage:
    """The effect of thresholds on the probability, and what the model does.

    Attributes:
        curve: from a few of the surest images to all.
        table: for a few fractions of the images.
        chosen: the labels that the model gives; None if it gives all or none.
        reasons: how many labels are withheld for their probability, and for the image's novelty.
        beyond: for a few values of novelty, the fraction of test images above it.
        novel: the most novel images, most novel first.
    """

    curve: list[CoveragePoint]
    table: list[CoveragePoint]
    chosen: CoveragePoint | None
    reasons: dict[str, int]
    beyond: dict[float, Interval]
    novel: list[Prediction]


def coverage(predictions: Sequence[Prediction]) -> Coverage | None:
    """The candidate's coverage on the test split; None if it could read no image."""
    read = [p for p in predictions if p.predicted]
    if not read:
        return None
    count = len(predictions)
    surest = sorted(read, key=lambda p: -p.probability)
    hits = np.cumsum([p.right for p in surest])
    # Of images with the same probability a threshold keeps all or none.
    ends = [n for n in range(len(surest)) if n + 1 == len(surest) or surest[n + 1].probability < surest[n].probability]

    def point(last: int) -> CoveragePoint:
        return CoveragePoint((last + 1) / count, surest[last].probability, wilson(int(hits[last]), last + 1))

    shown = [end for end in ends if end + 1 >= _LEAST_COVERAGE * count]
    wanted = [min(ends, key=lambda end: (abs(end + 1 - fraction * count), end)) for fraction in _FRACTIONS]
    labeled = [p for p in read if not p.reason]
    withheld = [p for p in read if p.reason]
    chosen = None
    if withheld and labeled:
        least = min(p.probability for p in labeled)
        chosen = CoveragePoint(len(labeled) / count, least, wilson(sum(p.right for p in labeled), len(labeled)))
    return Coverage(
        curve=[point(end) for end in dict.fromkeys([*shown[:: len(shown) // _POINTS + 1], ends[-1]])],
        table=[point(end) for end in dict.fromkeys(wanted)],
        chosen=chosen,
        reasons={kind: sum(p.reason.startswith(kind) for p in withheld) for kind in ("probability", "novelty")},
        beyond={rank: wilson(sum(p.novelty > rank for p in read), len(read)) for rank in _RANKS},
        novel=most_novel(predictions),
    )


def most_novel(predictions: Sequence[Prediction]) -> list[Prediction]:
    """The most novel images first."""
    return sorted((p for p in predictions if p.predicted), key=lambda p: (-p.novelty, p.path))[:_NOVEL]
