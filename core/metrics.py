"""The names of the metrics that settings may bound; components/evaluation/metrics.py measures them."""

FRACTIONS = ("accuracy", "top_3_accuracy")  # of the test images

LOSS = "cross_entropy"

CALIBRATION = "expected_calibration_error"

COVERED = ("coverage", "accuracy_at_coverage")
"""The fraction of the test images that get a label, given `abstain`, and the accuracy of these labels."""

AUC = "auc"

MEANS = tuple(f"{kind}_{name}" for kind in ("macro", "weighted") for name in ("precision", "recall", "f1", AUC))
"""Over the classes that have images: `macro_…` weighs all classes alike, `weighted_…` by their numbers of images."""

METRICS = (*FRACTIONS, LOSS, CALIBRATION, *COVERED, *MEANS)

LOWER_IS_BETTER = frozenset({LOSS, CALIBRATION})
