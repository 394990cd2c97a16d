"""What Beam's components and batch-predict wrote on an engine, compared with what they wrote in memory."""

from typing import Any

import numpy as np

BATCH_PREDICT = "batch-predict"
COMPONENTS = [
    "ImageExampleGen",
    "StatisticsGen",
    "Transform",
    "FeatureExtractor",
    "Predictor",
    "Evaluator",
    BATCH_PREDICT,
]


def check_equal(made: dict[str, Any], expected: dict[str, Any]) -> None:
    """Asserts that a component wrote what it wrote on another engine.

    Features come from batches of other sizes, sums are added in another order: equal but for rounding.
    """
    keys = set(expected) - {"numbers", "seconds"}
    assert {key: made[key] for key in keys} == {key: expected[key] for key in keys}
    np.testing.assert_allclose(made.get("numbers", []), expected.get("numbers", []), rtol=2e-4, atol=1e-5)
