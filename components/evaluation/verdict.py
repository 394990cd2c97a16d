"""The gate's verdict: metrics, predictions and bounds in, a decision with a sentence for every failure out; no TFX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from components.evaluation import messages
from components.evaluation.bounds import Judged, judge_bounds, read_bounds
from components.evaluation.metrics import Estimates
from components.evaluation.predictions import columns
from components.evaluation.slice_result import Measured, SliceResult
from core.artifacts.predictions import BASELINE, CANDIDATE, Prediction, Scores
from core.artifacts.verdict import OVERALL, Failure, JudgedBound, Verdict
from core.errors import InputError
from core.examples import LABEL
from core.settings.evaluation import GateBounds

_IMAGES = 50


def judge(
    measured: Sequence[Measured],
    predictions: Sequence[Prediction],
    scores: Scores,
    bounds: GateBounds,
    not_compared: str | None = None,
) -> Verdict:
    """Judges a candidate by what TFMA measured on the entire split and on the slices, and by all predictions.

    `not_compared` is why there is no baseline, in a sentence. Without bins of scores there are no areas under curves.

    Raises:
        InputError: a bounded metric cannot be judged, or nothing was measured at all.
    """
    results = {result.slice: result for result in _results(measured, predictions, scores, bounds.confidence)}
    if OVERALL not in results:
        raise InputError("the evaluation measured nothing: is the test split empty?")
    overall = results.pop(OVERALL)
    slices = [results[name] for name in sorted(results)]
    wanted = read_bounds(bounds, overall)
    judged = judge_bounds(overall, slices, wanted, bounds.confidence)
    not_compared = None if overall.compared else not_compared or "there is no blessed model yet"
    strict = bounds.on_doubt == "refuse"
    failures = [_failure(j, predictions) for j in judged if j.state == "broken" or (strict and j.state == "doubt")]
    bounded = {j.result.slice for j in judged}
    return Verdict(
        blessed=not failures,
        confidence=bounds.confidence,
        on_doubt=bounds.on_doubt,
        not_compared=not_compared,
        overall=overall.summary(scores.classes),
        slices=[result.summary(scores.classes if result.slice in bounded else ()) for result in slices],
        judged=[_judged(j) for j in judged],
        failures=failures,
        notes=list(messages.notes(overall, slices, wanted, judged, not_compared, strict)),
    )


def _results(
    measured: Sequence[Measured], predictions: Sequence[Prediction], scores: Scores, confidence: float
) -> Iterator[SliceResult]:
    """Every slice with the predictions for its images."""
    labels = [p.label for p in predictions]
    past = [p.baseline for p in predictions if p.baseline is not None]
    compared = len(past) == len(predictions) and any(BASELINE in one.metrics for one in measured)
    models = [columns(labels, predictions, scores.classes, scores.bins.get(CANDIDATE))]
    if compared:
        models.append(columns(labels, past, scores.classes, scores.bins.get(BASELINE)))
    names = {name for one in measured for name, _ in one.parts}
    values = {name: np.array([p.slices.get(name) for p in predictions], object) for name in names}
    values[LABEL] = np.array(labels, object)
    for one in measured:
        inside = np.ones(len(predictions), bool)
        for name, value in one.parts:
            inside &= values[name] == value
        images = np.flatnonzero(inside)
        metrics = one.metrics if compared else {CANDIDATE: one.metrics[CANDIDATE]}
        estimates = Estimates(*(model.of(images) for model in models))
        yield SliceResult(one.parts, one.examples, metrics, images, estimates, confidence)


def _failure(judged: Judged, predictions: Sequence[Prediction]) -> Failure:
    bound, result = judged.bound, judged.result
    found = result.range(bound.metric)
    inside = (predictions[number] for number in result.images)
    wrong = sorted((p for p in inside if not p.right), key=lambda p: (p.label_probability, p.path))
    if bound.kind == "max_drop":
        wrong.sort(key=lambda p: p.baseline is None or p.baseline.predicted != p.label)  # keeps the order otherwise
    return Failure(
        metric=bound.metric,
        slice=result.slice,
        value=found.value,
        low=found.low,
        high=found.high,
        bound=messages.allowed(bound, result),
        kind=bound.kind if result.is_overall else f"per_slice_{bound.kind}",
        examples=result.examples,
        p=judged.p,
        mistakes=len(wrong),
        images=[p.path for p in wrong[:_IMAGES]],
        message=messages.message(judged),
    )


def _judged(judged: Judged) -> JudgedBound:
    bound, result = judged.bound, judged.result
    return JudgedBound(
        setting=bound.setting,
        metric=bound.metric,
        slice=result.slice,
        bound=bound.value,
        examples=result.examples,
        found=result.range(bound.metric),
        p=judged.p,
        state=judged.state,
    )
