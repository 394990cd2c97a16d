"""Which classes the model confuses: the confusion matrix, and the pairs by frequency."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from core.artifacts.predictions import Prediction
from core.artifacts.verdict import Confusion

_MATRIX_CLASSES = 30


@dataclasses.dataclass(frozen=True)
class ConfusionMatrix:
    """Counts: a row for each true class, a column for each predicted one.

    Attributes:
        classes: all; of more than thirty, those of the most frequent mistakes.
        counts: rows in the order of `classes`.
    """

    classes: list[str]
    counts: list[list[int]]
    of: int


def confusion_matrix(predictions: Sequence[Prediction], classes: Iterable[str]) -> ConfusionMatrix:
    """Of the test split; `classes` are the model's."""
    names = shown = sorted({*classes, *(p.label for p in predictions)})
    if len(names) > _MATRIX_CLASSES:
        pairs = ((pair.actual, pair.predicted) for pair in confused_pairs(predictions))
        worst = dict.fromkeys(name for name in itertools.chain(*pairs, names) if name)
        shown = sorted(itertools.islice(worst, _MATRIX_CLASSES))
    counts = collections.Counter((p.label, p.predicted) for p in predictions)
    rows = [[counts[actual, predicted] for predicted in shown] for actual in shown]
    return ConfusionMatrix(shown, rows, len(names))


def confused_pairs(predictions: Iterable[Prediction]) -> list[Confusion]:
    """The mistakes by true and predicted class."""
    counts = collections.Counter((p.label, p.predicted) for p in predictions if not p.right)
    return mistakes_first(Confusion(*pair, count) for pair, count in counts.items())


def mistakes_first(confusions: Iterable[Confusion]) -> list[Confusion]:
    """Mistakes before correct predictions, each of them the most frequent first."""
    return sorted(confusions, key=lambda c: (c.actual == c.predicted, -c.examples, c.actual, c.predicted))
