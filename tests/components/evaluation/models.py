"""Models of known quality, for tests of the gate: logits are normal, the true class's higher by the signal."""

from __future__ import annotations

import dataclasses

import numpy as np

from components.evaluation.measures import Answers, score_bins


@dataclasses.dataclass(frozen=True)
class Model:
    """A model on images whose classes come in the given shares.

    Attributes:
        classes: shares; a class that is rarer than others makes means over classes unsure.
        signal: how far the true class's logit is above the others, in standard deviations.
        sharpness: what the logits are multiplied by, as a multiple of what makes the probabilities true.
    """

    classes: tuple[float, ...]
    signal: float
    sharpness: float = 1.0


def answer(
    generator: np.random.Generator, model: Model, count: int, label: np.ndarray | None = None
) -> tuple[Answers, np.ndarray]:
    """Its answers for images drawn at random, of the classes `label` if given; and the probabilities [n, k]."""
    shares = np.array(model.classes)
    if label is None:
        label = generator.choice(len(shares), count, p=shares)
    logits = generator.normal(size=(count, len(shares)))
    logits[np.arange(count), label] += model.signal
    logits = model.sharpness * (model.signal * logits + np.log(shares))  # Bayes's rule, where sharpness is 1
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    own = probabilities[np.arange(count), label]
    return (
        Answers(
            label=label,
            predicted=probabilities.argmax(axis=1),
            rank=1 + (probabilities > own[:, None]).sum(axis=1),
            loss=-np.log(np.clip(own, 1e-7, 1 - 1e-7)),
            confidence=probabilities.max(axis=1),
            scores=score_bins(probabilities),
        ),
        probabilities,
    )
