"""The gate's verdict: metrics, answers and bounds in, a decision with a sentence for every failure out. No TFX here.

Bounds, as JSON (null or absent demands nothing):

    {"thresholds": {"accuracy": {"min": 0.9, "max": null, "max_drop": 0.01}},
     "per_slice": {"accuracy": {"min": 0.7, "max": null, "max_drop": null, "min_examples": 30}},
     "confidence": 0.95, "on_doubt": "pass"}

A bound is broken only where the answers say so with that confidence, corrected for the number of bounds that are judged
(components/evaluation/bounds.py, docs/gate.md). `gate.json` is `Verdict.to_dict`
(`not_compared`: why there is no baseline):

    {"blessed": bool, "confidence": 0.95, "on_doubt": "pass" | "refuse", "not_compared": null | why not,
     "metrics": {name: {"overall": x, "low": x, "high": x, "baseline": x | null, "change": range | null}},
     "slices": [{"slice": name, "examples": n, "metrics": {name: range}, "baseline": {name: range} | null,
                 "change": {name: range} | null,
                 "classes": as below, those only that the slice has or that were told there,
                 "confusion": [{"class": name, "predicted": name, "examples": n}], without zeros}],
     "classes": [{"class": name, "examples": n, "metrics": {"precision" | "recall" | "f1" | "auc": range}}],
     "confusion": {"classes": [name], "counts": [[n]]},
     "judged": [{"metric", "slice", "kind", "bound", "examples", "value", "low", "high", "p", "state"}],
     "failures": [as `Failure`], "notes": [sentence]}

A slice has the last two only where a bound is judged. A range is {"value": x, "low": x, "high": x}; limits are null
where none are known, a value where it is not finite.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.evaluation import intervals, measures, messages
from components.evaluation.bounds import PER_SLICE, Judged, judge_bounds, read_bounds
from components.evaluation.messages import allowed
from components.evaluation.slice_result import OVERALL, Measured, SliceResult, class_records, confusion_records
from core.artifacts.predictions import BASELINE, CANDIDATE, Prediction
from core.errors import InputError
from core.examples import LABEL

_PICTURES = 50


@dataclasses.dataclass(frozen=True)
class Failure:
    """One bound that the candidate breaks, or of which it is in doubt where `on_doubt` is `refuse`.

    Attributes:
        metric: its name.
        slice: where, as in `Measured`.
        value: of the candidate; None where it is not a finite number, which JSON cannot hold.
        low: its lower confidence limit.
        high: its upper one.
        bound: that the value breaks; for a drop the value that was still allowed.
        kind: `min`, `max`, `max_drop`, or `per_slice_` and one of them.
        examples: images in the slice.
        p: the chance that a model which keeps the bound looks this bad, corrected for the number of bounds.
        mistakes: how many images of the slice are wrong.
        pictures: paths of these, at most fifty: the worst first; for a drop, first those that were right before.
        message: all of it in a sentence.
    """

    metric: str
    slice: str
    value: float | None
    low: float | None
    high: float | None
    bound: float
    kind: str
    examples: int
    p: float
    mistakes: int
    pictures: list[str]
    message: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether the candidate is blessed, and all it was judged by; see the module's docstring."""

    blessed: bool
    confidence: float
    on_doubt: str
    not_compared: str | None
    metrics: dict[str, dict[str, Any]]
    slices: list[dict[str, Any]]
    classes: list[dict[str, Any]]
    confusion: dict[str, Any] | None
    judged: list[dict[str, Any]]
    failures: list[Failure]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def judge(
    candidate: Sequence[Measured],
    baseline: Sequence[Measured] | None,
    predictions: Sequence[Prediction],
    classes: Sequence[str],
    bounds: Mapping[str, Any],
    not_compared: str | None = None,
    scores: Mapping[str, np.ndarray] | None = None,
) -> Verdict:
    """Judges a candidate.

    Args:
        candidate: the whole split (`overall`) and the slices.
        baseline: the same of the last blessed model; None if there is none to compare with.
        predictions: the answers for all test images.
        classes: the candidate's, in the order of its outputs.
        bounds: see the module's docstring.
        not_compared: why there is no baseline, in a sentence.
        scores: `SCORES_FILE`'s content; without it areas under ROC curves have no intervals and cannot be bounded.

    Raises:
        InputError: a bounded metric is not measured, or nothing was measured at all.
    """
    confidence = float(bounds.get("confidence", intervals.CONFIDENCE))
    results = _results(candidate, baseline, predictions, classes, confidence, scores or {})
    if OVERALL not in results:
        raise InputError("the evaluation measured nothing: is the test split empty?")
    overall = results.pop(OVERALL)
    slices = [results[name] for name in sorted(results)]
    thresholds, per_slice = read_bounds(bounds, [m for m in overall.measured.metrics if overall.can_judge(m)])
    judged = judge_bounds(overall, slices, thresholds, per_slice, overall.confidence)
    refusing = ("broken", "doubt") if bounds.get("on_doubt") == "refuse" else ("broken",)
    failures = [_failure(j, predictions) for j in judged if j.state in refusing]
    compared = overall.before is not None
    bounded = {j.result.measured.slice for j in judged}
    return Verdict(
        blessed=not failures,
        confidence=overall.confidence,
        on_doubt=str(bounds.get("on_doubt", "pass")),
        not_compared=None if compared else not_compared or "there is no blessed model yet",
        metrics={name: _overall_record(overall, name) for name in overall.measured.metrics},
        slices=[_slice_record(result, classes if result.measured.slice in bounded else ()) for result in slices],
        classes=class_records(overall.measured, classes, overall.confidence),
        confusion=None
        if overall.measured.confusion is None
        else {"classes": list(classes), "counts": overall.measured.confusion.tolist()},
        judged=[_judged_record(j) for j in judged],
        failures=failures,
        notes=list(messages.notes(overall, slices, thresholds, per_slice, judged, not_compared, "doubt" in refusing)),
    )


def _results(
    candidate: Sequence[Measured],
    baseline: Sequence[Measured] | None,
    predictions: Sequence[Prediction],
    classes: Sequence[str],
    confidence: float,
    scores: Mapping[str, np.ndarray],
) -> dict[str, SliceResult]:
    """Every slice with the answers for its images."""
    before = {m.slice: m for m in baseline or []}
    labels = [p.label for p in predictions]
    past = [p.baseline for p in predictions if p.baseline is not None]
    compared = bool(before) and len(past) == len(predictions)
    names = [*classes, *labels, *(p.predicted for p in predictions), *(a.predicted for a in past)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    answers = measures.columns(labels, [p.answer for p in predictions], numbers, scores.get(CANDIDATE))
    answers_before = measures.columns(labels, past, numbers, scores.get(BASELINE)) if compared else None
    values: dict[str, np.ndarray] = {}
    results = {}
    for measured in candidate:
        inside = np.ones(len(predictions), bool)
        for name, value in measured.parts:
            if name not in values:
                values[name] = np.array([p.label if name == LABEL else p.slices.get(name) for p in predictions], object)
            inside &= values[name] == value
        images = np.flatnonzero(inside)
        results[measured.slice] = SliceResult(
            measured,
            before.get(measured.slice) if compared else None,
            images,
            answers.of(images),
            answers_before.of(images) if answers_before else None,
            confidence,
        )
    return results


def _failure(judged: Judged, predictions: Sequence[Prediction]) -> Failure:
    bound, result = judged.bound, judged.result
    found = result.range(bound.metric)
    inside = [predictions[i] for i in result.images]
    wrong = sorted((p for p in inside if not p.right), key=lambda p: (p.label_probability, p.path))
    if bound.kind == "max_drop":
        wrong.sort(key=lambda p: p.baseline is None or p.baseline.predicted != p.label)  # keeps the order otherwise
    return Failure(
        metric=bound.metric,
        slice=result.measured.slice,
        value=found["value"],
        low=found["low"],
        high=found["high"],
        bound=allowed(bound, result),
        kind=bound.kind if result.is_overall else f"{PER_SLICE}{bound.kind}",
        examples=result.measured.examples,
        p=judged.p,
        mistakes=len(wrong),
        pictures=[p.path for p in wrong[:_PICTURES]],
        message=messages.message(judged),
    )


def _judged_record(judged: Judged) -> dict[str, Any]:
    bound, result = judged.bound, judged.result
    return {
        "metric": bound.metric,
        "slice": result.measured.slice,
        "kind": bound.kind if result.is_overall else f"{PER_SLICE}{bound.kind}",
        "bound": bound.value,
        "examples": result.measured.examples,
        **result.range(bound.metric),
        "p": judged.p,
        "state": judged.state,
    }


def _overall_record(overall: SliceResult, metric: str) -> dict[str, Any]:
    found, past = overall.range(metric), overall.past_range(metric)
    return {
        OVERALL: found["value"],
        "low": found["low"],
        "high": found["high"],
        "baseline": past["value"] if past else None,
        "change": overall.change(metric),
    }


def _slice_record(result: SliceResult, classes: Sequence[str]) -> dict[str, Any]:
    """`classes` are those of the model, none where they are not to be recorded."""
    names = list(result.measured.metrics)
    compared = result.past is not None
    confusion = confusion_records(result.measured, classes) if classes else []
    there = {entry[role] for entry in confusion for role in ("class", "predicted")}
    by_class = class_records(result.measured, classes, result.confidence) if classes else []
    return {
        "slice": result.measured.slice,
        "examples": result.measured.examples,
        "metrics": {name: result.range(name) for name in names},
        "baseline": {name: result.past_range(name) for name in names} if compared else None,
        "change": {name: result.change(name) for name in names} if compared else None,
        "classes": [record for record in by_class if record["class"] in there],
        "confusion": confusion,
    }
