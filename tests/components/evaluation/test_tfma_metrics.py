"""The metrics TFMA lacks, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tensorflow_model_analysis.metrics import metric_types

from components.evaluation.calibration import CalibrationError
from components.evaluation.predictions import Predictions
from components.evaluation.tfma_metrics import ExpectedCalibrationError, OneVsRestAUC


def measure(metric: metric_types.Metric, labels: np.ndarray, probabilities: np.ndarray) -> dict:
    """Runs the metric's combiner over two halves, as two workers would."""
    (computation,) = metric.computations(model_names=[""], output_names=[""])
    combiner = computation.combiner
    halves = []
    for half in np.array_split(np.arange(len(labels)), 2):
        total = combiner.create_accumulator()
        for i in half:
            inputs = metric_types.StandardMetricInputs(labels=labels[i : i + 1], predictions=probabilities[i])
            total = combiner.add_input(total, inputs)
        halves.append(total)
    return combiner.extract_output(combiner.merge_accumulators(halves))


@pytest.fixture
def predictions() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 600)
    logits = generator.normal(0, 2, (600, 4)) + 2 * np.eye(4)[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_the_area_of_every_class_against_the_rest(predictions) -> None:
    labels, probabilities = predictions

    found = measure(OneVsRestAUC(classes=4), labels, probabilities)

    assert {key.sub_key.class_id: value for key, value in found.items()} == pytest.approx(
        {c: roc_auc_score(labels == c, probabilities[:, c]) for c in range(4)}, abs=1e-3
    )


def test_certain_predictions_are_distinguished_and_one_sided_slices_have_no_area() -> None:
    found = measure(OneVsRestAUC(classes=3), np.array([0, 1]), np.array([[1.0, 0, 0], [0, 1.0, 0]]))

    assert [found[key] for key in sorted(found)][:2] == [1.0, 1.0]
    assert np.isnan([found[key] for key in sorted(found)][2])


def test_the_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.62, 0.38], [0.61, 0.39]])

    (error,) = measure(ExpectedCalibrationError(), np.array([0, 1, 0, 0]), probabilities).values()

    assert error == pytest.approx((2 * abs(0.5 - 0.95) + abs(2 - 0.62 - 0.61)) / 4)


def test_the_calibration_error_is_the_one_that_is_judged(predictions) -> None:
    labels, probabilities = predictions
    label_probability = probabilities[np.arange(600), labels]
    predicted = probabilities.argmax(axis=1)
    columns = Predictions(labels, predicted, predicted, -np.log(label_probability), probabilities.max(axis=1))

    (error,) = measure(ExpectedCalibrationError(), labels, probabilities).values()

    assert CalibrationError(columns).value == pytest.approx(error)
