"""Temperature scaling: one number that calibrates probabilities (Guo et al., On Calibration of Modern Neural Networks).

All logits are divided by it, so the order of the classes never changes. It is fitted on the eval split, and kept only
if it lowers the cross-entropy in cross-validation.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from core.artifacts.training_summary import Calibration

_FOLDS = 5
_LEAST = 30  # images of the eval split: enough to fit one number; fewer say nothing
_COLDEST, _HOTTEST = 0.05, 20.0


def calibrate(logits: np.ndarray, labels: np.ndarray) -> Calibration | None:
    """Fits the temperature to logits, float32 [n, k], and labels, int64 [n].

    It is 1 if no other value is better. Returns None if there are too few images.
    """
    if len(labels) < _LEAST:
        return None
    folds = np.random.default_rng(0).permutation(len(labels)) % _FOLDS
    held_out = []
    for fold in range(_FOLDS):
        temperature = _temperature(logits[folds != fold], labels[folds != fold])
        held_out.append(_losses(logits[folds == fold], labels[folds == fold], temperature))
    before, after = float(_losses(logits, labels, 1.0).mean()), float(np.concatenate(held_out).mean())
    kept = after < before
    return Calibration(_temperature(logits, labels) if kept else 1.0, len(labels), before, after if kept else before)


def _temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the lowest cross-entropy, which has a single minimum."""
    found = optimize.minimize_scalar(
        lambda log: _losses(logits, labels, np.exp(log)).mean(),
        bounds=(np.log(_COLDEST), np.log(_HOTTEST)),
        method="bounded",
    )
    return float(np.exp(found.x))


def _losses(logits: np.ndarray, labels: np.ndarray, temperature: float) -> np.ndarray:
    """The cross-entropy of each image, float64 [n]."""
    scaled = logits.astype(np.float64) / temperature
    return special.logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]
