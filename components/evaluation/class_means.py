"""Means over classes (precision, recall, F1, area under the ROC curve): values and uncertainty.

Every mistake lowers such a mean, and a mistake on a class of three images lowers it more than one on a class of three
hundred. Age-standardized rates in epidemiology have the same structure, so their intervals are used: Fay and Feuer,
Confidence intervals for directly standardized rates (Statistics in Medicine 16, 1997). If all classes have the same
size, this is the exact binomial test (Clopper and Pearson 1934), as for fractions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
from scipy import special, stats

from components.evaluation.intervals import Interval
from components.evaluation.predictions import Predictions
from components.evaluation.significance import PValues
from core.metrics import AUC

_UNSEEN = 4.0  # differing images to allow for although none was seen: Wilson's and Tango's z squared, at 95 %


@dataclasses.dataclass(frozen=True)
class ClassMean:
    """One mean; `loss` [n] is what each image subtracts from it, and `most` the most that a single one could."""

    value: float
    loss: np.ndarray
    most: float

    def at_least(self, bound: float) -> PValues:  # noqa: D102
        lost, allowed = 1 - self.value, 1 - bound
        square = float(np.square(self.loss).sum())
        broken = float(special.betainc(*_beta(lost, square), allowed)) if lost > 1e-9 else 1.0
        kept = float(1 - special.betainc(*_beta(lost + self.most, square + self.most**2), allowed))
        return PValues(broken, kept, math.sqrt(max(square, self.most**2) * max(self.value, 0.0)))

    def interval(self, confidence: float) -> Interval:
        """Between the bounds that `at_least` would just call broken or kept, each with half of the risk."""
        risk, lost = (1 - confidence) / 2, 1 - self.value
        square = float(np.square(self.loss).sum())
        least = float(special.betaincinv(*_beta(lost, square), risk)) if lost > 1e-9 else 0.0
        most = float(special.betaincinv(*_beta(lost + self.most, square + self.most**2), 1 - risk))
        low, high = min(1 - most, self.value), max(1 - least, self.value)
        return Interval(self.value, low, high, len(self.loss))

    def change_from(self, before: ClassMean) -> MeanChange:  # noqa: D102
        return MeanChange(self.value - before.value, self.loss - before.loss, max(self.most, before.most))


def _beta(lost: float, square: float) -> tuple[float, float]:
    """Parameters of the distribution of the true loss, as if `cases` of `size` equal images were lost."""
    cases, size = lost**2 / square, lost / square
    return cases, max(size - cases, 0.0) + 1


@dataclasses.dataclass(frozen=True)
class MeanChange:
    """The change of a mean between two models on the same images, judged like a weighted McNemar's test by the images
    on which they differ: `losses` [n] is what an image subtracts from the new model more than from the old one."""

    value: float
    losses: np.ndarray
    most: float
    detail: str = ""

    def worse_by_at_most(self, bound: float) -> PValues:
        """Student's t, with one degree of freedom per differing image."""
        drop, squares = -self.value - bound, np.square(self.losses)
        broken = 1.0
        if squares.any():
            differing = max(float(squares.sum() / squares.max()), 1.0)
            broken = float(stats.t.sf(drop / math.sqrt(squares.sum()), differing))
        return PValues(broken, float(special.ndtr(drop / self._error)), self._error)

    def interval(self, confidence: float) -> Interval:
        """Symmetric; never narrower than what a sample without differing images can hide."""
        half = float(special.ndtri((1 + confidence) / 2)) * self._error
        return Interval(self.value, max(self.value - half, -1.0), min(self.value + half, 1.0), len(self.losses))

    @property
    def _error(self) -> float:
        return math.sqrt(float(np.square(self.losses).sum()) + _UNSEEN * self.most**2)


def class_means(predictions: Predictions) -> dict[str, ClassMean]:
    """All means, over the classes that have images; areas only with scores and images of at least two classes.

    Images of a class that the model does not know count only as negatives in areas.
    """
    known = predictions.label >= 0
    present = np.unique(predictions.label[known])
    if not len(present):
        return {}
    label = np.where(known, np.searchsorted(present, predictions.label), -1)
    support = np.bincount(label[known]).astype(float)
    all_weights = {"macro": np.full(len(present), 1 / len(present)), "weighted": support / support.sum()}
    found = {}
    for kind, weights in all_weights.items():
        for name, mean in _of_labels(predictions, present, label, support, weights):
            found[f"{kind}_{name}"] = mean
    if predictions.scores is not None and len(present) > 1:
        for kind, mean in _areas(predictions.scores, present, label, support, all_weights):
            found[f"{kind}_{AUC}"] = mean
    return found


def area(scores: np.ndarray, own: np.ndarray) -> float:
    """The area under the ROC curve of one class, from its scores [n] and which images belong to it, bool [n].

    Ties count half (Mann and Whitney 1947).
    """
    return float(_beaten(scores[own], scores[~own]).mean())


def _beaten(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The fraction of `others` below each score; ties count half."""
    others = np.sort(others)
    return (np.searchsorted(others, scores, "left") + np.searchsorted(others, scores, "right")) / (2 * len(others))


def _of_labels(
    predictions: Predictions, present: np.ndarray, label: np.ndarray, support: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[str, ClassMean]]:
    """Precision, recall and F1; `label` [n] indexes `present` [k] or is -1; `support` and `weights` are [k]."""
    known, wrong = label >= 0, (label >= 0) & ~predictions.right
    place = np.clip(np.searchsorted(present, predictions.predicted), 0, len(present) - 1)
    is_present = known & (present[place] == predictions.predicted)
    predicted = np.bincount(place[is_present], minlength=len(present)).astype(float)
    hits = np.bincount(label[predictions.right], minlength=len(present)).astype(float)
    never = predicted == 0  # no precision: taken from the images of the class
    of_class = {
        "precision": (np.maximum(predicted, 1), weights / np.maximum(predicted, 1), never * weights / support),
        "recall": (support, np.zeros_like(weights), weights / support),
        "f1": ((predicted + support) / 2, weights / (predicted + support), weights / (predicted + support)),
    }
    for name, (total, by_predicted, by_label) in of_class.items():
        values = hits / total
        loss = (wrong & is_present) * by_predicted[place] + wrong * by_label[label]
        yield name, ClassMean(float(values @ weights), loss, float(by_predicted.max() + by_label.max()))


def _areas(
    scores: np.ndarray, present: np.ndarray, label: np.ndarray, support: np.ndarray, all_weights: dict[str, np.ndarray]
) -> Iterator[tuple[str, ClassMean]]:
    """The mean area for each of the weights [k]: DeLong's structural components (Sun and Xu 2014) are its losses.

    An image of the class lowers its area by the fraction of the others that rank above it, one of another class by the
    fraction of the class's images that rank below it. One class at a time, since a column of scores [n] is small.
    """
    others = len(label) - support
    losses = {kind: np.zeros(len(label)) for kind in all_weights}
    for number, column in enumerate(present):
        own = label == number
        own_scores, other_scores = scores[own, column], scores[~own, column]
        above, below = 1 - _beaten(own_scores, other_scores), _beaten(other_scores, own_scores)
        for kind, weights in all_weights.items():
            losses[kind][own] += above * (weights[number] / support[number])
            losses[kind][~own] += below * (weights[number] / others[number])
    for kind, weights in all_weights.items():
        most = (weights / support) + (weights / others).sum() - weights / others
        yield kind, ClassMean(1 - float(losses[kind].sum()) / 2, losses[kind], float(most.max()))
