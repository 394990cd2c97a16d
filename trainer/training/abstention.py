"""Chooses the thresholds on probability and novelty beyond which the exported model gives no label."""

from __future__ import annotations

import math

import numpy as np

from core.artifacts.training_summary import Abstention
from core.errors import InputError
from core.settings.abstain import AbstainConfig


def check(config: AbstainConfig | None, images: int) -> None:
    """Raises InputError if the eval split has too few images to ever show the desired precision."""
    if config and config.precision is not None and _shown(images, images) < config.precision:
        least = math.ceil((config.precision - 0.5) / (1 - config.precision))
        raise InputError(
            f"abstain.precision is {config.precision:g}, which the {images} images of the eval split cannot show, even "
            f"if all labels are right: it takes {least}. Lower it, or give the eval split more of data.splits."
        )


def choose(config: AbstainConfig, probability: np.ndarray, right: np.ndarray, novelty: np.ndarray) -> Abstention:
    """The thresholds, and their effect on the eval split.

    For a given precision, it is the lowest probability above which the expected fraction of right labels reaches it,
    with Jeffreys' prior (Brown, Cai and DasGupta 2001): (r + 1/2) / (n + 1) if r of n are right, so that a few images
    that happen to be right show little.

    Args:
        probability: of the predicted class of each eval image, as the exported model gives it, [n].
        right: whether that is the true class, bool [n].
        novelty: in [0, 1], [n].

    Raises:
        InputError: no threshold reaches the desired precision.
    """
    most = 1.0 if config.novelty is None else config.novelty
    near = novelty <= most
    least = config.probability or 0.0
    if config.precision is not None:
        least = _threshold(config.precision, probability[near], right[near])
    labeled = near & (probability >= least)
    return Abstention(least, most, len(right), int(labeled.sum()), int(right[labeled].sum()))


def _threshold(precision: float, probability: np.ndarray, right: np.ndarray) -> float:
    order = np.argsort(-probability, kind="stable")
    sure, hits = probability[order], np.cumsum(right[order])
    counts = np.arange(1, len(sure) + 1)
    shown = _shown(hits, counts)
    last = np.append(sure[1:] < sure[:-1], True)  # a threshold keeps all or none of equal probabilities
    enough = np.flatnonzero((shown >= precision) & last)
    if not len(enough):
        best = int(np.argmax(np.where(last, shown, 0))) if len(sure) else 0
        found = f"; the most are {hits[best]} of {counts[best]}" if len(sure) else ""
        raise InputError(
            f"abstain.precision is {precision:g}, and no threshold on the probability shows that so many labels are "
            f"right on the {len(right)} images of the eval split that are not too novel{found}. Lower it, set "
            "abstain.probability instead, or give the eval split more of data.splits."
        )
    kept = int(enough[-1])
    return float((sure[kept] + sure[kept + 1]) / 2) if kept + 1 < len(sure) else 0.0


def _shown(right: np.ndarray | int, of: np.ndarray | int) -> np.ndarray | float:
    return (right + 0.5) / (of + 1)
