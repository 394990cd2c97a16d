"""The metrics that settings may bound: their names. components/evaluation/metrics.py measures them."""

FRACTIONS = ("accuracy", "top_3_accuracy")  # of the test images

LOSS = "cross_entropy"

CALIBRATION = "expected_calibration_error"

COVERED = ("coverage", "accuracy_at_coverage")
"""The fraction of the test images that get a label, as `abstain` has it, and of the right ones among these labels."""

AUC = "auc"

MEANS = tuple(f"{kind}_{name}" for kind in ("macro", "weighted") for name in ("precision", "recall", "f1", AUC))
"""Over the classes that have images: in `macro_…` every class counts the same, in `weighted_…` by its images."""

METRICS = (*FRACTIONS, LOSS, CALIBRATION, *COVERED, *MEANS)

LOWER_IS_BETTER = frozenset({LOSS, CALIBRATION})
