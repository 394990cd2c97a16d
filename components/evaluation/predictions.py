"""One model's predictions for many images as columns, and their binning for metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from core.artifacts.predictions import Classification

_LEAST_PROBABILITY = 1e-7  # as Keras clips

CALIBRATION_BINS = 10
"""Of equal width, from 0 to 1, for the calibration error (Guo et al. 2017 use 15, Naeini et al. 2015 use 10)."""

SCORE_BINS = 1024
"""Of the logit, from -16 to 16: 1/32 wide. Probabilities of a float32 softmax reach about 1e-7."""

_MOST_LOGIT = 16.0


@dataclasses.dataclass(frozen=True)
class Predictions:
    """One model's predictions for n images, as columns [n].

    Attributes:
        label: number of the true class; -1 if the model does not know it.
        predicted: number of the most probable class; for an unreadable image the one after `label`, which is wrong.
        rank: of the true class, 1 being the most probable.
        loss: minus the logarithm of the true class's probability.
        labeled: which images get a label; None for all of them.
        scores: `score_bins` of the probability of every class that the model knows, [n, k]; None if not kept.
    """

    label: np.ndarray
    predicted: np.ndarray
    rank: np.ndarray
    loss: np.ndarray
    confidence: np.ndarray
    labeled: np.ndarray | None = None
    scores: np.ndarray | None = None

    @property
    def count(self) -> int:  # noqa: D102
        return len(self.label)

    @property
    def right(self) -> np.ndarray:
        """Which images are classified correctly, bool [n]."""
        return self.predicted == self.label

    def of(self, images: np.ndarray) -> Predictions:
        """The predictions for some of the images, selected by a bool or int array."""
        return Predictions(**{name: column[images] for name, column in vars(self).items() if column is not None})


def columns(
    labels: Sequence[str],
    predictions: Sequence[Classification],
    classes: Sequence[str],
    scores: np.ndarray | None = None,
) -> Predictions:
    """One model's predictions for labeled images; `classes` are the model's, in the order of `scores`."""
    numbers = {name: number for number, name in enumerate(classes)}
    label = np.array([numbers.get(name, -1) for name in labels], int)
    predicted = np.array([numbers.get(p.predicted, -1) for p in predictions], int)
    probability = np.array([p.label_probability for p in predictions], float)
    return Predictions(
        label=label,
        predicted=np.where(predicted < 0, (label + 1) % max(len(classes), 1), predicted),
        rank=np.array([p.rank for p in predictions], int),
        loss=-np.log(np.clip(probability, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)),
        confidence=np.array([p.probability for p in predictions], float),
        labeled=np.array([bool(p.predicted) and not p.reason for p in predictions], bool),
        scores=scores,
    )


def calibration_bins(confidence: np.ndarray | float) -> np.ndarray:
    """The calibration bin of each probability, from 0; int of the same shape."""
    return np.minimum((np.asarray(confidence) * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)


def score_bins(probabilities: np.ndarray) -> np.ndarray:
    """The bin of each probability's logit, int16 of the same shape; used for areas under ROC curves."""
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities) - np.log1p(-np.minimum(probabilities, 1))
    return np.clip((logits / _MOST_LOGIT + 1) / 2 * SCORE_BINS, 0, SCORE_BINS - 1).astype(np.int16)


def logits_of(bins: np.ndarray) -> np.ndarray:
    """The logit in the middle of each bin of `score_bins`, float64 of the same shape."""
    return ((bins + 0.5) / SCORE_BINS * 2 - 1) * _MOST_LOGIT


def confusion(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of true and predicted class, int [p, 2], and the number of images of each, int [p].

    Only pairs that occur, since a matrix of a thousand classes has a million cells. Images of a class that the model
    does not know are left out.
    """
    known = predictions.label >= 0
    pairs = np.column_stack([predictions.label[known], predictions.predicted[known]])
    return np.unique(pairs, axis=0, return_counts=True)
