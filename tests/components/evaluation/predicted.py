"""Predictions and measurements for tests of the gate, as Predictor and the Evaluator would leave them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from components.evaluation.metrics import Estimates
from components.evaluation.predictions import columns
from components.evaluation.slice_result import Measured
from core.artifacts.predictions import Classification, Prediction
from core.artifacts.verdict import OVERALL
from core.metrics import CALIBRATION, FRACTIONS, LOSS

CLASSES = ("a", "b")


def predictions(
    right: Sequence[bool],
    before: Sequence[bool] | None = None,
    slices: Sequence[str] | None = None,
    sure: float = 0.9,
) -> list[Prediction]:
    """An image per item: of class `a` or `b` in turn, classified rightly or not, `slices` being values of `light`."""

    def classification(label: str, is_right: bool) -> Classification:
        other = CLASSES[1 - CLASSES.index(label)]
        return Classification(*((label, sure, sure, 1) if is_right else (other, sure, 1 - sure, 2)))

    made = []
    for number, is_right in enumerate(right):
        label = CLASSES[number % 2]
        candidate = classification(label, is_right)
        made.append(
            Prediction(
                f"{label}/{number:04d}.jpg",
                f"{number}",
                label,
                candidate.predicted,
                candidate.probability,
                candidate.label_probability,
                {"light": slices[number] if slices else "day"},
                candidate.rank,
                classification(label, before[number]) if before is not None else None,
            )
        )
    return made


def measure(predictions: Sequence[Prediction], baseline: bool = False, **wrong: float) -> list[Measured]:
    """The whole split and the slices of `light`, measured; `wrong` replaces values, as a metric that is NaN."""
    groups: dict[tuple[tuple[str, str], ...], list[Prediction]] = {(): list(predictions)}
    for prediction in predictions:
        groups.setdefault((("light", prediction.slices["light"]),), []).append(prediction)
    measured = []
    for parts, group in groups.items():
        classified = [p.baseline or p.candidate if baseline else p.candidate for p in group]
        found = Estimates(columns([p.label for p in group], classified, CLASSES))
        values = {name: found.of(name)[0].value for name in (*FRACTIONS, LOSS, CALIBRATION)} | {"macro_auc": math.nan}
        name = ", ".join(f"{n}={v}" for n, v in parts) or OVERALL
        measured.append(Measured(parts, name, len(group), values | wrong))
    return measured
