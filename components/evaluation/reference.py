"""Counts a model's predictions on its test split, which monitoring compares production with. Needs no TFX."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

from core.artifacts.monitoring import Counted, Moments, MonitoringConfig, Reference
from core.artifacts.predictions import Prediction


def reference(predictions: Sequence[Prediction], classes: Sequence[str], config: MonitoringConfig) -> Reference:
    """Counts the candidate's predictions for the test images."""
    readable = [one for one in predictions if one.predicted]
    confidence = np.array([one.probability for one in readable], float)
    slices: dict[str, dict[str, Counted]] = {}
    for feature in config.features:
        of_value = collections.defaultdict[str, list[bool]](list)
        for one in predictions:
            if feature in one.slices:
                of_value[one.slices[feature]].append(one.right)
        slices[feature] = {value: Counted(len(right), sum(right)) for value, right in sorted(of_value.items())}
    predicted = collections.Counter(one.predicted for one in readable)
    labels = collections.Counter(one.label for one in predictions)
    return Reference(
        overall=Counted(len(predictions), sum(one.right for one in predictions)),
        readable=len(readable),
        predicted={name: predicted[name] for name in classes},
        labels={name: labels[name] for name in classes},
        slices=slices,
        confidence=Moments(float(confidence.mean()), float(confidence.var(ddof=1)))
        if len(readable) > 1
        else Moments(0, 0),
        boundaries=config.boundaries,
        bounds=config.bounds,
    )
