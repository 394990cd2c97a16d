"""Chooses the thresholds on probability and novelty beyond which the exported model gives no label."""

from __future__ import annotations

import dataclasses

import numpy as np

from core.artifacts.training_summary import Abstention
from core.settings.abstain import AbstainConfig


def choose(config: AbstainConfig, probability: np.ndarray, right: np.ndarray, novelty: np.ndarray) -> Abstention:
    """The thresholds, and their effect on the eval split.

    For a given precision, it is the lowest probability above which the expected fraction of right labels reaches it,
    with Jeffreys' prior (Brown, Cai and DasGupta 2001): (r + 1/2) / (n + 1) if r of n are right, so that a few images
    that happen to be right show little. If no threshold suffices, it is the one that shows the most, and the
    result says so: ModelGate refuses such a model.

    Args:
        probability: of the predicted class of each eval image, as the exported model gives it, [n].
        right: whether that is the true class, bool [n].
        novelty: in [0, 1], [n].
    """
    most = 1.0 if config.novelty is None else config.novelty
    near = novelty <= most
    least, enough = config.probability or 0.0, True
    if config.precision is not None:
        least, enough = _threshold(config.precision, probability[near], right[near])
    labeled = near & (probability >= least)
    chosen = Abstention(least, most, len(right), int(labeled.sum()), int(right[labeled].sum()))
    if enough:
        return chosen
    return dataclasses.replace(
        chosen,
        not_shown=(
            f"no threshold on the probability shows abstain.precision {config.precision:g} on the "
            f"{chosen.images} images of the eval split: the best gives {chosen.labeled} of them a label, "
            f"{chosen.right} the right one. Add images of what is confused, lower it, or set abstain.probability"
        ),
    )


def _threshold(precision: float, probability: np.ndarray, right: np.ndarray) -> tuple[float, bool]:
    """The lowest that is enough, and True; or else the best, and False."""
    if not len(right):
        return 1.0, False
    order = np.argsort(-probability, kind="stable")
    sure, hits = probability[order], np.cumsum(right[order])
    counts = np.arange(1, len(sure) + 1)
    shown = (hits + 0.5) / (counts + 1)
    last = np.append(sure[1:] < sure[:-1], True)  # a threshold keeps all or none of equal probabilities
    enough = np.flatnonzero((shown >= precision) & last)
    kept = int(enough[-1] if len(enough) else np.argmax(np.where(last, shown, 0)))
    threshold = float((sure[kept] + sure[kept + 1]) / 2) if kept + 1 < len(sure) else 0.0
    return threshold, len(enough) > 0
