"""The gate's verdict: from metrics, predictions and bounds to a decision with a message per failure. Needs no TFX."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from components.evaluation import messages, slicing
from components.evaluation.bounds import Judged, judge_bounds, read_bounds
from components.evaluation.metrics import Estimates
from components.evaluation.predictions import columns
from components.evaluation.slice_result import Measured, SliceResult
from core.artifacts.predictions import BASELINE, CANDIDATE, Prediction, Scores
from core.artifacts.tflite_files import TFLiteFile
from core.artifacts.verdict import ExportMetrics, Failure, JudgedBound, Regressions, Verdict
from core.errors import InputError
from core.metrics import METRICS
from core.settings.evaluation import EvaluationSettings
from core.settings.export import ExportFormat
from core.slices import CROSS

_IMAGES = 50


def judge(
    measured: Sequence[Measured],
    predictions: Sequence[Prediction],
    scores: Scores,
    settings: EvaluationSettings,
    not_compared: str | None = None,
    regressions: Regressions | None = None,
    exports: Sequence[TFLiteFile] = (),
    abstention: str | None = None,
) -> Verdict:
    """Judges a candidate by TFMA's measurements on the entire split and on slices, and by all predictions.

    Slices that TFMA was spared (`components.evaluation.slicing`) are measured from the predictions alone.
    `not_compared` is a sentence on why there is no baseline; `exports` are what the candidate was converted to, whose
    predictions are in `predictions` too. Without binned scores there are no areas under curves. Too many wrong
    `regressions`, and an `abstention` as in a `Verdict`, refuse a model by themselves.

    Raises:
        InputError: a bounded metric cannot be judged, or nothing was measured.
    """
    split = _TestSplit(measured, predictions, scores, settings.confidence)
    by_tfma: dict[tuple[str, ...], list[SliceResult]] = {}
    for one in measured:
        by_tfma.setdefault(tuple(name for name, _ in one.parts), []).append(split.result(one))
    if () not in by_tfma:
        raise InputError("the evaluation measured nothing: is the test split empty?")
    (overall,) = by_tfma.pop(())
    converted = [split.export(one.format) for one in exports]
    wanted = read_bounds(settings, overall, [one.format for one in exports])
    bounded = min((bound.min_examples for bound in wanted if bound.group == "per_slice"), default=None)
    slices = [result for results in by_tfma.values() for result in results]
    cut = {}
    for names in slicing.crossed_names(settings.slices):
        if names not in by_tfma:
            found = split.images_by_value(names)
            kept = slicing.largest(found, bounded)
            slices += [
                split.result(Measured(tuple(zip(names, values, strict=True)), len(found[values]), {}))
                for values in kept
            ]
            if len(kept) < len(found):
                cut[CROSS.join(names)] = len(kept), len(found)
    slices.sort(key=lambda result: result.slice)
    judged = judge_bounds(overall, slices, wanted, settings.confidence, converted)
    not_compared = None if overall.compared else not_compared or "there is no blessed model yet"
    strict = settings.on_doubt == "refuse"
    failures = [_failure(j, predictions) for j in judged if j.state == "broken" or (strict and j.state == "doubt")]
    judged_on = {j.result.slice for j in judged}
    return Verdict(
        blessed=not (failures or abstention or (regressions and regressions.message)),
        confidence=settings.confidence,
        on_doubt=settings.on_doubt,
        not_compared=not_compared,
        overall=overall.summary(scores.classes),
        slices=[result.summary(scores.classes if result.slice in judged_on else ()) for result in slices],
        judged=[_judged(j) for j in judged],
        failures=failures,
        notes=[
            *messages.cut(cut),
            *messages.notes(overall, slices, wanted, judged, not_compared, strict),
            *messages.kept_regressions(regressions),
        ],
        regressions=regressions,
        abstention=abstention,
        exports=[
            ExportMetrics(
                file, {name: one.range(name) for name in METRICS}, {name: one.change(name) for name in METRICS}
            )
            for file, one in zip(exports, converted, strict=True)
        ],
    )


class _TestSplit:
    """The individual predictions of the candidate and perhaps the baseline."""

    def __init__(
        self, measured: Sequence[Measured], predictions: Sequence[Prediction], scores: Scores, confidence: float
    ) -> None:
        labels = [p.label for p in predictions]
        past = [p.baseline for p in predictions if p.baseline is not None]
        self._models = {CANDIDATE: columns(labels, predictions, scores.classes, scores.bins.get(CANDIDATE))}
        if len(past) == len(predictions) and any(BASELINE in one.metrics for one in measured):
            self._models[BASELINE] = columns(labels, past, scores.classes, scores.bins.get(BASELINE))
        self._confidence = confidence
        self._export = lambda name: columns(
            labels, [p.exports[name] for p in predictions], scores.classes, scores.bins.get(name)
        )
        self.images_by_value = functools.lru_cache(functools.partial(slicing.images_by_value, predictions))

    def result(self, measured: Measured) -> SliceResult:
        """One slice with the predictions for its images, without measurements of a baseline that is not compared."""
        names, values = zip(*measured.parts, strict=True) if measured.parts else ((), ())
        images = np.array(self.images_by_value(names).get(values, ()), int)
        metrics = {name: measured.metrics.get(name, {}) for name in self._models}
        estimates = Estimates(*(model.of(images) for model in self._models.values()))
        return SliceResult(measured.parts, measured.examples, metrics, images, estimates, self._confidence)

    def export(self, name: ExportFormat) -> SliceResult:
        """What the candidate was converted to, on the entire split, beside the candidate."""
        candidate = self._models[CANDIDATE]
        estimates = Estimates(self._export(name), candidate)
        metrics: dict[str, dict[str, float]] = {CANDIDATE: {}, BASELINE: {}}  # all by the estimates
        images = np.arange(candidate.count)
        return SliceResult((), candidate.count, metrics, images, estimates, self._confidence, name)


def _failure(judged: Judged, predictions: Sequence[Prediction]) -> Failure:
    bound, result = judged.bound, judged.result
    found = result.range(bound.metric)
    inside = (predictions[number] for number in result.images)
    export = result.export
    # Each image with the judged prediction and the one it is compared with.
    pairs = [(p, p.exports[export], p) if export else (p, p, p.baseline) for p in inside]
    wrong = [(p, now, before) for p, now, before in pairs if now.predicted != p.label]
    wrong.sort(key=lambda one: (one[1].label_probability, one[0].path))
    if bound.kind == "max_drop":
        wrong.sort(key=lambda one: one[2] is None or one[2].predicted != one[0].label)  # keeps the order otherwise
    return Failure(
        setting=bound.setting,
        metric=bound.metric,
        slice=result.slice,
        value=found.value,
        low=found.low,
        high=found.high,
        bound=messages.allowed(bound, result),
        kind=bound.kind if bound.group == "thresholds" else f"{bound.group.partition('.')[0]}_{bound.kind}",
        examples=result.examples,
        p=judged.p,
        mistakes=len(wrong),
        images=[p.path for p, _, _ in wrong[:_IMAGES]],
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
