"""One slice of the test split: what TFMA measured there of both models, and how sure the single predictions make it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from components.evaluation import intervals
from components.evaluation.intervals import Interval
from components.evaluation.metrics import Estimate, Estimates
from core.artifacts.verdict import OVERALL, ClassMetrics, Confusion, Range, SliceMetrics


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

    def value(self, metric: str) -> float | None:
        """None where it is not a finite number."""
        value = self.metrics.get(metric, math.nan)
        return value if math.isfinite(value) else None


@dataclasses.dataclass(frozen=True)
class SliceResult:
    """Both models on one slice.

    Attributes:
        candidate: what was measured of it.
        baseline: likewise, None if there is none.
        images: places of the slice's images among all predictions, int [n].
        estimates: from the predictions of both for these images.
        confidence: of all intervals.
    """

    candidate: Measured
    baseline: Measured | None
    images: np.ndarray
    estimates: Estimates
    confidence: float

    @property
    def slice(self) -> str:
        """Its name."""
        return self.candidate.slice

    @property
    def is_overall(self) -> bool:
        """Whether it is the whole split."""
        return self.slice == OVERALL

    def range(self, metric: str) -> Range:
        """The candidate's value, and its limits where they are known."""
        return self._range(self.candidate, metric, self.estimates.of(metric)[:1])

    def change(self, metric: str) -> Range | None:
        """Candidate minus baseline, on the same images; None if there is no baseline or no interval is known."""
        change = self.estimates.change(metric)
        return _as_range(change.interval(self.confidence)) if change else None

    def metrics(self, classes: Sequence[str]) -> SliceMetrics:
        """All of it; `classes` are those of the model, none where they are not to be listed."""
        names, baseline = list(self.candidate.metrics), self.baseline
        confusions = _confusions(self.candidate, classes)
        present = {name for pair in confusions for name in (pair.actual, pair.predicted)}
        return SliceMetrics(
            slice=self.slice,
            examples=self.candidate.examples,
            metrics={m: self.range(m) for m in names},
            baseline={m: self._range(baseline, m, self.estimates.of(m)[1:]) for m in names} if baseline else None,
            change={m: self.change(m) for m in names} if baseline else None,
            classes=[
                found
                for found in class_metrics(self.candidate, classes, self.confidence)
                if self.is_overall or found.class_name in present
            ],
            confusions=confusions,
        )

    def _range(self, measured: Measured, metric: str, estimates: Sequence[Estimate]) -> Range:
        value = measured.value(metric)
        if value is None or not estimates:
            return Range(value)
        found = estimates[0].interval(self.confidence)
        # TFMA counts in float32: the value may lie beyond its limits by a rounding.
        return Range(value, min(found.low, value), max(found.high, value))


def class_metrics(measured: Measured, classes: Sequence[str], confidence: float) -> list[ClassMetrics]:
    """Precision, recall, F1 and AUC of every class on a slice."""
    counts = measured.confusion
    if counts is None:
        return []
    found = []
    for number, name in enumerate(classes):
        actual, predicted, hits = (
            int(n) for n in (counts[number].sum(), counts[:, number].sum(), counts[number, number])
        )
        area = measured.auc[number] if number < len(measured.auc) else math.nan
        others = int(counts.sum()) - actual
        has_area = math.isfinite(area) and actual and others
        found.append(
            ClassMetrics(
                class_name=name,
                examples=actual,
                precision=_as_range(intervals.wilson(hits, predicted, confidence) if predicted else None),
                recall=_as_range(intervals.wilson(hits, actual, confidence) if actual else None),
                f1=_as_range(intervals.f1(hits, predicted, actual, confidence) if predicted + actual else None),
                auc=_as_range(intervals.auc(area, actual, others, confidence) if has_area else None),
            )
        )
    return found


def _confusions(measured: Measured, classes: Sequence[str]) -> list[Confusion]:
    if measured.confusion is None or not classes:
        return []
    return [
        Confusion(classes[actual], classes[predicted], int(measured.confusion[actual, predicted]))
        for actual, predicted in np.argwhere(measured.confusion).tolist()
    ]


def _as_range(interval: Interval | None) -> Range:
    return Range(interval.value, interval.low, interval.high) if interval else Range(None)
