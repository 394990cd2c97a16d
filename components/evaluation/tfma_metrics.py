"""Metrics that TFMA lacks, or has at a cost that grows with the number of classes: one combiner each, in NumPy.

TFMA's AUC with `class_id` is a computation of its own for every class, model and slice: with a hundred classes the
Evaluator would take many minutes for a few thousand predictions. It has no calibration error of multi-class models.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types, metric_util

from components.evaluation.predictions import CALIBRATION_BINS, SCORE_BINS, calibration_bins, score_bins


class ExpectedCalibrationError(metric_types.Metric):
    """Mean distance of confidence and accuracy over bins, weighted by their images (Naeini et al. 2015)."""

    def __init__(self, name: str = "expected_calibration_error", code: str = "") -> None:
        """`code` is a hash of this module: part of the config, so that TFX's cache notices when it changes."""
        super().__init__(metric_util.merge_per_key_computations(_calibration), name=name, code=code)


class OneVsRestAUC(metric_types.Metric):
    """Area under the ROC curve of every class against the rest; NaN where a slice has only images of one side."""

    def __init__(self, classes: int, name: str = "auc", code: str = "") -> None:
        """Measures all `classes`; `code` as above."""
        super().__init__(metric_util.merge_per_key_computations(_auc), name=name, classes=classes, code=code)


def _calibration(name: str, code: str, eval_config: Any = None, model_name: str = "", **_: Any) -> Any:
    key = metric_types.MetricKey(name=name, model_name=model_name)
    return [metric_types.MetricComputation([key], None, _CalibrationCombiner(key, eval_config))]


def _auc(name: str, classes: int, code: str, eval_config: Any = None, model_name: str = "", **_: Any) -> Any:
    keys = [
        metric_types.MetricKey(name=name, model_name=model_name, sub_key=metric_types.SubKey(class_id=number))
        for number in range(classes)
    ]
    return [metric_types.MetricComputation(keys, None, _AucCombiner(keys, eval_config))]


class _Combiner(beam.CombineFn):
    """Sums up arrays; `_add` is what one image adds."""

    def __init__(self, keys: list[metric_types.MetricKey], eval_config: Any) -> None:
        self._keys = keys
        self._eval_config = eval_config

    def add_input(self, total: np.ndarray, element: metric_types.StandardMetricInputs) -> np.ndarray:
        label, probabilities, _ = next(
            metric_util.to_label_prediction_example_weight(
                element, eval_config=self._eval_config, model_name=self._keys[0].model_name, flatten=False
            )
        )
        self._add(total, int(np.ravel(label)[0]), np.asarray(probabilities, np.float64).ravel())
        return total

    def merge_accumulators(self, totals: Iterable[np.ndarray]) -> np.ndarray:
        return np.sum(list(totals), axis=0)

    def _add(self, total: np.ndarray, label: int, probabilities: np.ndarray) -> None:
        raise NotImplementedError


class _CalibrationCombiner(_Combiner):
    """Sums, for every bin, images, confidence and right predictions: float [bins, 3]."""

    def __init__(self, key: metric_types.MetricKey, eval_config: Any) -> None:
        super().__init__([key], eval_config)

    def create_accumulator(self) -> np.ndarray:
        return np.zeros((CALIBRATION_BINS, 3))

    def _add(self, total: np.ndarray, label: int, probabilities: np.ndarray) -> None:
        best = int(probabilities.argmax())
        confidence = probabilities[best]
        total[calibration_bins(confidence)] += (1, confidence, best == label)

    def extract_output(self, total: np.ndarray) -> dict[metric_types.MetricKey, float]:
        return {self._keys[0]: float(np.abs(total[:, 1] - total[:, 2]).sum() / max(total[:, 0].sum(), 1))}


class _AucCombiner(_Combiner):
    """Counts, for every class, its images and the others by the logit of its probability: int [k, 2, bins]."""

    def create_accumulator(self) -> np.ndarray:
        return np.zeros((len(self._keys), 2, SCORE_BINS), np.int64)

    def _add(self, total: np.ndarray, label: int, probabilities: np.ndarray) -> None:
        numbers = np.arange(len(self._keys))
        total[numbers, (numbers != label).astype(int), score_bins(probabilities)] += 1

    def extract_output(self, total: np.ndarray) -> dict[metric_types.MetricKey, float]:
        positives, negatives = total[:, 0].astype(float), total[:, 1].astype(float)
        below = np.cumsum(negatives, axis=1) - negatives / 2  # of equal scores half counts (Mann and Whitney 1947)
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        with np.errstate(invalid="ignore"):
            area = (positives * below).sum(axis=1) / pairs
        return dict(zip(self._keys, area.tolist(), strict=True))


metric_types.register_metric(ExpectedCalibrationError)
metric_types.register_metric(OneVsRestAUC)
