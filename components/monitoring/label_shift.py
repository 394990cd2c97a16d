"""Estimates how often each class occurs in production from the model's probabilities, without labels.

If only the classes' shares have changed, and not what images of a class look like, the maximum-likelihood estimate of
the new shares follows from calibrated probabilities by expectation maximization (Saerens, Latinne, Decaestecker 2002;
Alexandari, Kundaje and Shrikumar 2020 compare it with others, and calibrate first, as is done here).
"""

from __future__ import annotations

import numpy as np

from core.artifacts.verdict import Range

_STEPS, _ENOUGH = 200, 1e-5
_RESAMPLES = 100
CELLS = 2_000_000
"""So many probabilities are looked at, at most: of 10 classes those of 200,000 images, which take 6 CPU seconds."""

LEAST_PER_CLASS = 10
"""So many images for each class are the least: of fewer, the estimate is too often 0, and its interval too."""

_SEED = 0


def estimate(probabilities: np.ndarray, before: np.ndarray, confidence: float) -> list[Range]:
    """The share of each class, with limits by a bootstrap of the images.

    Args:
        probabilities: float [n, k], of a random sample of production; more than `CELLS` are not worth the time.
        before: float [k], the classes' shares among the test images; those of 0 stay 0.
    """
    generator, n = np.random.default_rng(_SEED), len(probabilities)
    found = _shares(probabilities, np.ones(n), before)
    draws = (np.bincount(generator.integers(n, size=n), minlength=n) for _ in range(_RESAMPLES))
    resampled = np.stack([_shares(probabilities, weights, before, found) for weights in draws])
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return [
        Range(float(value), float(min(value, below)), float(max(value, above)))
        for value, below, above in zip(found, low, high, strict=True)
    ]


def _shares(
    probabilities: np.ndarray, weights: np.ndarray, before: np.ndarray, start: np.ndarray | None = None
) -> np.ndarray:
    """Float [k]; each image counts `weights` times, float [n]."""
    ratio = np.divide(probabilities, before, out=np.zeros_like(probabilities), where=before > 0)
    shares = before if start is None else start
    for _ in range(_STEPS):
        posterior = ratio * shares
        total = posterior.sum(axis=1)
        kept = total > 0
        updated = (weights[kept] / total[kept]) @ posterior[kept]
        updated /= updated.sum() or 1
        done = np.abs(updated - shares).max() < _ENOUGH
        shares = updated
        if done:
            break
    return shares
