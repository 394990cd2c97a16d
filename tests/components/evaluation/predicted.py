"""Answers and measurements for tests of the gate, as Predictor and the Evaluator would leave them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from components.evaluation.measures import columns, resample
from components.evaluation.slice_result import OVERALL, Measured
from core.artifacts.predictions import Answer, Prediction

CLASSES = ("a", "b")


def predictions(
    right: Sequence[bool],
    before: Sequence[bool] | None = None,
    slices: Sequence[str] | None = None,
    sure: float = 0.9,
) -> list[Prediction]:
    """An image per item: of class `a` or `b` in turn, told rightly or not, `slices` being values of `light`."""

    def answer(label: str, is_right: bool) -> Answer:
        other = CLASSES[1 - CLASSES.index(label)]
        return Answer(label, sure, sure, 1) if is_right else Answer(other, sure, 1 - sure, 2)

    made = []
    for number, is_right in enumerate(right):
        label = CLASSES[number % 2]
        told = answer(label, is_right)
        made.append(
            Prediction(
                f"{label}/{number:04d}.jpg",
                f"{number}",
                label,
                told.predicted,
                told.probability,
                told.label_probability,
                {"light": slices[number] if slices else "day"},
                told.rank,
                answer(label, before[number]) if before is not None else None,
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
        answers = [p.baseline or p.answer if baseline else p.answer for p in group]
        found = columns([p.label for p in group], answers, {name: i for i, name in enumerate(CLASSES)})
        values = {name: r.value for name, r in resample([found])[0].items()} | {
            "accuracy": float(found.successes("accuracy").mean()),
            "top_3_accuracy": 1.0,
            "macro_auc": math.nan,
        }
        name = ", ".join(f"{n}={v}" for n, v in parts) or OVERALL
        measured.append(Measured(parts, name, len(group), values | wrong))
    return measured
