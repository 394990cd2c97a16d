"""What TFMA measures of a model and of its baseline, on which slices; the bounds are the gate's business.

The config holds no thresholds: TFMA applies a metric's threshold to every slice, so that small slices fail by chance
(components/model_gate.py judges instead).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from trainer import signatures
from trainer.errors import InputError

if TYPE_CHECKING:
    import tensorflow_model_analysis as tfma

METRICS = ("accuracy", "cross_entropy", "top_3_accuracy")
"""Names of the metrics that settings may bound."""

CROSS = "*"
"""Joins features to a crossed slice: `label*brightness`."""

_LABEL = "label"


def eval_config(slices: Iterable[str]) -> tfma.EvalConfig:
    """The Evaluator's config, for a candidate and a baseline that may be absent.

    Args:
        slices: names of features to slice by: `label`, or `x` for the feature `slice/x`; several joined by `*` are
            crossed. The whole split is always measured too.

    Raises:
        InputError: a slice has an empty name, or is given twice.
    """
    import tensorflow_model_analysis as tfma  # 19 s, and even its protos import all of it

    def keras(class_name: str, **arguments: str | int) -> tfma.MetricConfig:
        return tfma.MetricConfig(class_name=class_name, config=json.dumps(arguments))

    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                name=name,
                is_baseline=name == tfma.BASELINE_KEY,
                model_type=tfma.TF_GENERIC,
                signature_name=signatures.EXAMPLES,
                preprocessing_function_names=[signatures.LABELS],
                label_key="label_xf",
                prediction_key="probabilities",
            )
            for name in (tfma.CANDIDATE_KEY, tfma.BASELINE_KEY)
        ],
        slicing_specs=[tfma.SlicingSpec(feature_keys=keys) for keys in [[], *feature_keys(slices)]],
        metrics_specs=[
            tfma.MetricsSpec(
                metrics=[
                    tfma.MetricConfig(class_name="ExampleCount"),
                    keras("SparseCategoricalAccuracy", name="accuracy"),
                    keras("SparseCategoricalCrossentropy", name="cross_entropy"),
                    keras("SparseTopKCategoricalAccuracy", name="top_3_accuracy", k=3),
                    tfma.MetricConfig(class_name="MultiClassConfusionMatrixPlot"),
                ]
            )
        ],
    )


def feature_keys(slices: Iterable[str]) -> list[list[str]]:
    """The features of the tf.Examples that each slice crosses; one for a plain slice.

    Raises:
        InputError: a slice has an empty name, or is given twice.
    """
    crosses: list[list[str]] = []
    for name in slices:
        parts = [part.strip() for part in name.split(CROSS)]
        if not all(parts) or len(set(parts)) < len(parts):
            raise InputError(
                f"evaluation.slices: {name!r} is not a feature's name, nor different ones joined by {CROSS}"
            )
        cross = [part if part == _LABEL else f"slice/{part}" for part in parts]
        if sorted(cross) in map(sorted, crosses):
            raise InputError(f"evaluation.slices: {name!r} is given twice")
        crosses.append(cross)
    return crosses
