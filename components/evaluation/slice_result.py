"""One slice of the test split: the metrics of both models on it, and their uncertainty from individual predictions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from components.evaluation import intervals
from components.evaluation.class_means import area
from components.evaluation.intervals import as_range
from components.evaluation.metrics import Estimate, Estimates
from components.evaluation.predictions import Predictions, confusion
from core.artifacts.predictions import BASELINE, CANDIDATE
from core.artifacts.verdict import OVERALL, ClassMetrics, Confusion, Range, SliceMetrics
from core.metrics import METRICS
from core.settings.export import ExportFormat
from core.slices import title


@dataclasses.dataclass(frozen=True)
class Measured:
    """What TFMA measured on one slice.

    Attributes:
        parts: name and value of each feature that its images share; none for the entire split.
        metrics: for each model, values by name; NaN if TFMA could not compute one.
    """

    parts: tuple[tuple[str, str], ...]
    examples: int
    metrics: Mapping[str, Mapping[str, float]]

    @property
    def slice(self) -> str:
        """Its name, such as `label=roses`, or `overall`."""
        return title(self.parts) or OVERALL


@dataclasses.dataclass(frozen=True)
class SliceResult(Measured):
    """`Measured`, with estimates from individual predictions of the candidate and of the baseline, if there is one.

    Attributes:
        images: indices of the slice's images among all predictions, int [n].
        estimates: from the predictions for these images; also gives the metrics that TFMA did not measure.
        export: the format, if these are the predictions of an export; the candidate is then the baseline.
    """

    images: np.ndarray
    estimates: Estimates
    confidence: float
    export: ExportFormat | None = None

    @property
    def slice(self) -> str:
        """The slice's name, or the format of an export, which is judged on the entire split."""
        return self.export or super().slice

    @property
    def is_overall(self) -> bool:
        """Whether it is the entire split."""
        return not self.parts

    @property
    def compared(self) -> bool:
        """Whether there is a baseline."""
        return BASELINE in self.metrics

    def value(self, metric: str, model: str = CANDIDATE) -> float | None:
        """The metric's value; None if it is not finite or there is no such model."""
        estimate = self._estimate(metric, model)
        value = self.metrics.get(model, {}).get(metric, estimate.value if estimate else math.nan)
        return value if math.isfinite(value) else None

    def range(self, metric: str, model: str = CANDIDATE) -> Range:
        """The value, with its limits if they are known."""
        value, estimate = self.value(metric, model), self._estimate(metric, model)
        if value is None or not estimate:
            return Range(value)
        found = estimate.interval(self.confidence)
        # TFMA computes in float32, so rounding may put the value beyond its limits.
        return Range(value, min(found.low, value), max(found.high, value))

    def change(self, metric: str) -> Range | None:
        """Candidate minus baseline, on the same images; None if there is no baseline or no interval is known."""
        change = self.estimates.change(metric)
        return as_range(change.interval(self.confidence)) if change else None

    def summary(self, classes: Sequence[str]) -> SliceMetrics:
        """The slice as artifacts store it; `classes` are the model's, or empty if they are not to be listed."""
        predictions = self.estimates.models[0]
        pairs, counts = confusion(predictions) if classes else (np.empty((0, 2), int), ())
        listed = range(len(classes)) if self.is_overall else np.unique(pairs).tolist()
        return SliceMetrics(
            slice=self.slice,
            examples=self.examples,
            metrics={metric: self.range(metric) for metric in METRICS},
            baseline={metric: self.range(metric, BASELINE) for metric in METRICS} if self.compared else None,
            change={metric: self.change(metric) for metric in METRICS} if self.compared else None,
            classes=class_metrics(predictions, classes, self.confidence, listed),
            confusions=[
                Confusion(classes[i], classes[j], int(count))
                for (i, j), count in zip(pairs.tolist(), counts, strict=True)
            ],
        )

    def _estimate(self, metric: str, model: str) -> Estimate | None:
        return dict(zip((CANDIDATE, BASELINE), self.estimates.of(metric), strict=False)).get(model)


def class_metrics(
    predictions: Predictions, classes: Sequence[str], confidence: float, listed: Iterable[int]
) -> list[ClassMetrics]:
    """Precision, recall, F1 and AUC on a slice for the classes with the numbers `listed`.

    Images of a class that the model does not know count only in the AUC.
    """
    known = predictions.label >= 0
    supports, totals, right = (
        np.bincount(numbers, minlength=len(classes)).tolist()
        for numbers in (predictions.label[known], predictions.predicted[known], predictions.label[predictions.right])
    )
    found = []
    for number in listed:
        actual, predicted, hits = supports[number], totals[number], right[number]
        others, auc = int(known.sum()) - actual, None
        if predictions.scores is not None and actual and others:
            value = area(predictions.scores[:, number], predictions.label == number)
            auc = intervals.auc(value, actual, others, confidence)
        found.append(
            ClassMetrics(
                class_name=classes[number],
                examples=actual,
                precision=as_range(intervals.wilson(hits, predicted, confidence) if predicted else None),
                recall=as_range(intervals.wilson(hits, actual, confidence) if actual else None),
                f1=as_range(intervals.f1(hits, predicted, actual, confidence) if predicted + actual else None),
                auc=as_range(auc),
            )
        )
    return found
