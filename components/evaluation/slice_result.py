"""One slice of the test split: what TFMA measured there of both models, and how sure that is by the single answers."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.evaluation import intervals, measures
from components.evaluation.calibration import Calibration, CalibrationRise, calibration
from components.evaluation.class_means import ClassMean, change, class_means
from components.evaluation.intervals import Interval
from components.evaluation.measures import CALIBRATION, JUDGED, MEANS, SHARES, Answers, Resampled
from components.evaluation.significance import Evidence, at_least, drop_at_most, share_at_least

OVERALL = "overall"
"""What the whole split is called."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What TFMA measured of one model on one slice.

    Attributes:
        parts: which images: name and value of each feature; none for the whole split.
        slice: what that is called, e.g. `label=roses`, or `overall`.
        examples: number of images in it.
        metrics: values by name, NaN where TFMA could not tell.
        auc: by class, NaN likewise.
        confusion: images by true and predicted class, int [k, k]; None where it was not measured.
    """

    parts: tuple[tuple[str, str], ...]
    slice: str
    examples: int
    metrics: Mapping[str, float]
    auc: Sequence[float] = ()
    confusion: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class SliceResult:
    """Both models on one slice.

    Attributes:
        measured: of the candidate.
        past: of the baseline, None if there is none.
        images: places of the slice's images among all answers, int [n].
        answers: the candidate's.
        before: the baseline's for the same images.
        confidence: of all intervals.
    """

    measured: Measured
    past: Measured | None
    images: np.ndarray
    answers: Answers
    before: Answers | None
    confidence: float

    @property
    def is_overall(self) -> bool:
        """Whether it is the whole split."""
        return self.measured.slice == OVERALL

    @property
    def where(self) -> str:
        """` on the slice …`, nothing for the whole split."""
        return "" if self.is_overall else f" on the slice {self.measured.slice}"

    @functools.cached_property
    def _resampled(self) -> list[dict[str, Resampled]]:
        return measures.resample([a for a in (self.answers, self.before) if a is not None])

    @functools.cached_property
    def _means(self) -> list[dict[str, ClassMean]]:
        return [class_means(a) for a in (self.answers, self.before) if a is not None]

    @functools.cached_property
    def _calibration(self) -> list[Calibration]:
        return [calibration(a) for a in (self.answers, self.before) if a is not None]

    def can_judge(self, metric: str) -> bool:
        """Whether the answers can say how sure a metric is; of an area only if there are images of two classes."""
        return metric in JUDGED and (metric not in MEANS or metric in self._means[0])

    def range(self, metric: str) -> dict[str, float | None]:
        """The candidate's value, and its limits where they are known."""
        return self._range(self.measured, metric, self.answers, 0)

    def past_range(self, metric: str) -> dict[str, float | None] | None:
        """The baseline's likewise, None if there is none."""
        if self.past is None or self.before is None:
            return None
        return self._range(self.past, metric, self.before, 1)

    def change(self, metric: str) -> dict[str, float | None] | None:
        """Candidate minus baseline, on the same images; None if there is no baseline or no interval is known."""
        if self.before is None or not self.can_judge(metric):
            return None
        if metric in MEANS:
            now, then = self._means
            return as_range(change(now[metric], then[metric]).interval(self.confidence))
        if metric in SHARES:
            gained, lost = measures.discordant(self.answers, self.before, metric)
            return as_range(intervals.paired_change(gained, lost, self.answers.count, self.confidence))
        if metric == CALIBRATION:
            return as_range(CalibrationRise(*self._calibration).interval(self.confidence))
        after, before = self._resampled
        return as_range(after[metric].minus(before[metric]).interval(self.confidence))

    def evidence(self, metric: str, kind: str, bound: float) -> Evidence:
        """How surely the candidate breaks, or keeps, `min`, `max` or `max_drop` of one metric it can be judged by."""
        if kind == "max_drop":
            return self._drop(metric, bound)
        count = self.answers.count
        if metric in SHARES:
            successes = int(self.answers.successes(metric).sum())
            if kind == "max":  # as many failures at least
                return share_at_least(count - successes, count, 1 - bound)
            return share_at_least(successes, count, bound)
        if metric in MEANS:
            found = self._means[0][metric].evidence(bound)
            return found if kind == "min" else found.reversed()
        if metric == CALIBRATION:
            found = self._calibration[0].evidence(bound)
            return found if kind == "max" else found.reversed()
        sign = 1 if kind == "min" else -1
        loss = self._resampled[0][metric]
        return at_least(sign * loss.corrected, loss.error, count, sign * bound)

    def _drop(self, metric: str, bound: float) -> Evidence:
        assert self.before is not None  # the caller asks only where there is a baseline
        count = self.answers.count
        if metric in SHARES:
            return drop_at_most(*measures.discordant(self.answers, self.before, metric), count, bound)
        if metric in MEANS:
            now, then = self._means
            return change(now[metric], then[metric]).evidence(bound)
        if metric == CALIBRATION:
            after, before = self._resampled
            rise = after[metric].minus(before[metric])
            score = CalibrationRise(*self._calibration).evidence(bound)
            # The one forgets that both saw the same images, the other that chance adds to what shows: both must be sure
            return score.cautious(*(at_least(-v, rise.error, count, -bound) for v in (rise.value, rise.corrected)))
        more = self.answers.loss - self.before.loss
        error = float(more.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
        return at_least(-float(more.mean()), error, count, -bound)

    def _range(self, measured: Measured, metric: str, answers: Answers, model: int) -> dict[str, float | None]:
        value = measured.metrics.get(metric, math.nan)
        if metric in SHARES:
            found = measures.share(answers, metric, self.confidence)
        elif not self.can_judge(metric):
            return {"value": finite(value), "low": None, "high": None}
        elif metric in MEANS:
            found = self._means[model][metric].interval(self.confidence)
        elif metric == CALIBRATION:
            found = self._calibration[model].interval(self.confidence)
        else:
            found = self._resampled[model][metric].interval(self.confidence)
        if not math.isfinite(value):
            return {"value": None, "low": None, "high": None}
        # TFMA counts in float32: the value may lie beyond its limits by a rounding.
        return {"value": value, "low": min(found.low, value), "high": max(found.high, value)}


def as_range(interval: Interval) -> dict[str, float | None]:
    """The three numbers under the names `gate.json` has."""
    return {"value": finite(interval.value), "low": finite(interval.low), "high": finite(interval.high)}


def finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def class_records(measured: Measured, classes: Sequence[str], confidence: float) -> list[dict[str, Any]]:
    """Precision, recall, F1 and AUC of every class on a slice, as `gate.json` has them."""
    counts = measured.confusion
    if counts is None:
        return []
    records = []
    for number, name in enumerate(classes):
        true, told, hits = (int(n) for n in (counts[number].sum(), counts[:, number].sum(), counts[number, number]))
        area = measured.auc[number] if number < len(measured.auc) else math.nan
        others = int(counts.sum()) - true
        found = {
            "precision": intervals.wilson(hits, told, confidence) if told else None,
            "recall": intervals.wilson(hits, true, confidence) if true else None,
            "f1": intervals.f1(hits, told, true, confidence) if told + true else None,
            "auc": intervals.auc(area, true, others, confidence) if math.isfinite(area) and true and others else None,
        }
        unknown = {"value": None, "low": None, "high": None}
        ranges = {metric: as_range(interval) if interval else unknown for metric, interval in found.items()}
        records.append({"class": name, "examples": true, "metrics": ranges})
    return records


def confusion_records(measured: Measured, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The confusion matrix of a slice as `gate.json` has it, without zeros: no longer than the slice has images."""
    counts = measured.confusion
    if counts is None:
        return []
    return [
        {"class": classes[true], "predicted": classes[told], "examples": int(counts[true, told])}
        for true, told in np.argwhere(counts).tolist()
    ]
