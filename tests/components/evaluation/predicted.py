"""Predictions and measurements for tests of the gate, as Predictor and the Evaluator would leave them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from components.evaluation.metrics import Estimates
from components.evaluation.predictions import columns
from components.evaluation.slice_result import Measured
from core.artifacts.predictions import BASELINE, CANDIDATE, Classification, Prediction
from core.metrics import FRACTIONS, LOSS

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
                **dataclasses.asdict(candidate),
                path=f"{label}/{number:04d}.jpg",
                sha256=f"{number}",
                label=label,
                slices={"light": slices[number] if slices else "day"},
                baseline=classification(label, before[number]) if before is not None else None,
            )
        )
    return made


def measure(predictions: Sequence[Prediction], baseline: bool = False, **wrong: float) -> list[Measured]:
    """What TFMA measures on the entire split and the slices of `light`; `wrong` replaces values of the candidate."""
    groups: dict[tuple[tuple[str, str], ...], list[Prediction]] = {(): list(predictions)}
    for prediction in predictions:
        groups.setdefault((("light", prediction.slices["light"]),), []).append(prediction)

    def values(group: Sequence[Prediction], classified: Sequence[Classification]) -> dict[str, float]:
        found = Estimates(columns([p.label for p in group], classified, CLASSES))
        return {name: found.of(name)[0].value for name in (*FRACTIONS, LOSS)}

    measured = []
    for parts, group in groups.items():
        metrics = {CANDIDATE: values(group, group) | wrong}
        if baseline:
            metrics[BASELINE] = values(group, [p.baseline for p in group if p.baseline])
        measured.append(Measured(parts, len(group), metrics))
    return measured
