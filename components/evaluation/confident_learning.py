"""Finds labels that seem wrong, by confident learning (Northcutt, Jiang and Chuang 2021) on stored features.

A linear classifier gives each image's class probabilities out of fold: fitted without the image, its duplicates and its
group. If the given label is less probable than usual for its class, and another class is at least as probable as usual,
the label counts as wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import normalize

FOLDS = 5
"""A class needs this many groups of images, one for each fold."""

_REPEATS = 2  # of the cross-validation, with different folds; the mean varies less
_COMPONENTS = 128  # of the features
_C = 10.0  # inverse of the L2 penalty


class Reduction:
    """Reduces features to principal components, so that they need little memory, whatever the network."""

    def __init__(self, sample: np.ndarray) -> None:
        """`sample`: float32 [n, d], of images in random order; some thousands are enough."""
        self._mean = sample.mean(axis=0)
        self._components = PCA(min(_COMPONENTS, *sample.shape), svd_solver="randomized", random_state=0)
        self._components.fit(self._normalized(sample))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """float32 [n, d] to float32 [n, 128], or less if there are fewer images or features."""
        return self._components.transform(self._normalized(features)).astype(np.float32)

    def _normalized(self, features: np.ndarray) -> np.ndarray:
        return normalize(features - self._mean)


def out_of_fold(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    progressed: Callable[[int, int], None] = lambda done, of: None,
) -> np.ndarray:
    """Class probabilities, float64 [n, k], from classifiers fitted to other groups only.

    Args:
        features: float32 [n, d].
        labels: int64 [n], numbers of the k classes.
        groups: int64 [n], numbers of the groups; images of a group, such as duplicates, are in the same fold.
        progressed: called with the number of finished fits and their total.
    """
    probabilities = np.zeros((len(labels), int(labels.max()) + 1))
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    for repeat in range(_REPEATS):
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=repeat).split(first, labels[first])
        for fold, (_, of_fold) in enumerate(folds):
            held_out = np.isin(group, of_fold)
            train = ~held_out
            classifier = LogisticRegression(C=_C, tol=1e-3).fit(features[train], labels[train])
            probabilities[np.ix_(np.flatnonzero(held_out), classifier.classes_)] += classifier.predict_proba(
                features[held_out]
            )
            progressed(repeat * FOLDS + fold + 1, _REPEATS * FOLDS)
    return probabilities / _REPEATS


class LabelIssues(NamedTuple):
    """The images whose label is in doubt, most doubtful first.

    Attributes:
        images: int64 [m], their indices.
        likely: int64 [m], the class that fits better.
        confident: bool [m], whether the likely class is at least as probable as on average for images with that label:
            an off-diagonal entry of the confident joint.
    """

    images: np.ndarray
    likely: np.ndarray
    confident: np.ndarray


def find_label_issues(probabilities: np.ndarray, labels: np.ndarray) -> LabelIssues:
    """Confident learning with per-class thresholds, ranked by the margin between the label and the likely class.

    Args:
        probabilities: float64 [n, k], out of fold.
        labels: int64 [n].
    """
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    of_class = np.bincount(labels)
    thresholds = np.bincount(labels, own) / of_class  # the mean self-confidence of each class
    adjusted = probabilities - thresholds
    margins = adjusted[rows, labels] - adjusted.max(axis=1)
    doubted = np.flatnonzero(margins < 0)
    doubted = doubted[np.argsort(margins[doubted], kind="stable")]
    likely = adjusted[doubted].argmax(axis=1)
    return LabelIssues(doubted, likely, adjusted[doubted, likely] >= 0)
