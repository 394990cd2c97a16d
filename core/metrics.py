"""The metrics that settings may bound: their names. components/evaluation/metrics.py says how sure they are."""

FRACTIONS = ("accuracy", "top_3_accuracy")
"""Of the test images."""

LOSS = "cross_entropy"

CALIBRATION = "expected_calibration_error"

AVERAGES, AUC = ("precision", "recall", "f1"), "auc"

MEANS = tuple(f"{kind}_{name}" for kind in ("macro", "weighted") for name in (*AVERAGES, AUC))
"""Over the classes that have images: in `macro_…` every class counts the same, in `weighted_…` by its images."""

METRICS = (*FRACTIONS, LOSS, CALIBRATION, *MEANS)

LOWER_IS_BETTER = frozenset({LOSS, CALIBRATION})
