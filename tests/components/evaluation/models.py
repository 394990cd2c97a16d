"""Models of known quality, for tests of the gate: logits are normal, the true class's higher by the signal."""

from __future__ import annotations

import dataclasses

import numpy as np

from components.evaluation.predictions import Predictions, score_bins

LEAST_PROBABILITY = 0.5
"""Below it, the models withhold the label."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A model on images whose classes come in the given fractions.

    Attributes:
        classes: fractions; a class that is rarer than others makes means over classes unsure.
        signal: how far the true class's logit is above the others, in standard deviations.
        sharpness: what the logits are multiplied by, as a multiple of what makes the probabilities true.
    """

    classes: tuple[float, ...]
    signal: float
    sharpness: float = 1.0


def predict(
    generator: np.random.Generator, model: Model, count: int, label: np.ndarray | None = None
) -> tuple[Predictions, np.ndarray]:
    """Its predictions for images drawn at random, of the classes `label` if given; and the probabilities [n, k]."""
    fractions = np.array(model.classes)
    if label is None:
        label = generator.choice(len(fractions), count, p=fractions)
    logits = generator.normal(size=(count, len(fractions)))
    logits[np.arange(count), label] += model.signal
    logits = model.sharpness * (model.signal * logits + np.log(fractions))  # Bayes's rule, where sharpness is 1
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    own = probabilities[np.arange(count), label]
    return (
        Predictions(
            label=label,
            predicted=probabilities.argmax(axis=1),
            rank=1 + (probabilities > own[:, None]).sum(axis=1),
            loss=-np.log(np.clip(own, 1e-7, 1 - 1e-7)),
            confidence=probabilities.max(axis=1),
            labeled=probabilities.max(axis=1) >= LEAST_PROBABILITY,
            scores=score_bins(probabilities),
        ),
        probabilities,
    )
