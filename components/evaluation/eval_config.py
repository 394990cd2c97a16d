"""What TFMA measures for the candidate and the baseline, and on which slices; bounds are left to the gate.

The config has no thresholds: TFMA would apply them to every slice, so that small slices fail by chance
(components/model_gate.py judges instead). It names no model either: TFMA reads predictions that components/predictor.py
has already made from the examples.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from core.artifacts.predictions import TARGET
from core.slices import feature_keys

if TYPE_CHECKING:
    import tensorflow_model_analysis as tfma

_METRICS: dict[str, dict[str, str | int]] = {
    "ExampleCount": {},
    "SparseCategoricalAccuracy": {"name": "accuracy"},
    "SparseCategoricalCrossentropy": {"name": "cross_entropy"},
    "SparseTopKCategoricalAccuracy": {"name": "top_3_accuracy", "k": 3},
}


def eval_config(slices: Iterable[str]) -> tfma.EvalConfig:
    """The Evaluator's config for a candidate and an optional baseline, on these slices and the entire split.

    Raises:
        InputError: a slice has an empty name, or is given twice.
    """
    import tensorflow_model_analysis as tfma  # 19 s, and even its protos import all of it
    from tensorflow_model_analysis.constants import MATERIALIZED_PREDICTION

    metrics = [tfma.MetricConfig(class_name=name, config=json.dumps(config)) for name, config in _METRICS.items()]
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                name=name,
                is_baseline=name == tfma.BASELINE_KEY,
                model_type=MATERIALIZED_PREDICTION,
                label_key=TARGET,
                prediction_key=name,
            )
            for name in (tfma.CANDIDATE_KEY, tfma.BASELINE_KEY)
        ],
        slicing_specs=[tfma.SlicingSpec(feature_keys=keys) for keys in [[], *feature_keys(slices)]],
        metrics_specs=[tfma.MetricsSpec(metrics=metrics)],
    )
