"""Means over classes and the calibration error: values against scikit-learn, limits against exact ones."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from components.evaluation.calibration import CalibrationError
from components.evaluation.class_means import area, class_means
from components.evaluation.predictions import columns, score_bins
from core.artifacts.predictions import Classification
from core.metrics import MEANS
from tests.components.evaluation.models import Model, predict

ROUGH = Model(classes=(0.4, 0.25, 0.2, 0.1, 0.05), signal=1.0)


@pytest.mark.parametrize("model", [ROUGH, Model(classes=(0.5, 0.5), signal=1.0), Model(classes=(0.9, 0.1), signal=0.0)])
def test_values_are_scikit_learns(model: Model) -> None:
    predictions, probabilities = predict(np.random.default_rng(0), model, 400)
    predictions = dataclasses.replace(predictions, scores=probabilities)  # unbinned, as scikit-learn has them
    columns = enumerate(probabilities.T)
    areas = [sklearn_metrics.roc_auc_score(predictions.label == number, column) for number, column in columns]
    support = np.bincount(predictions.label)

    means = class_means(predictions)

    assert set(means) == set(MEANS)
    assert means["macro_auc"].value == pytest.approx(np.mean(areas))
    assert means["weighted_auc"].value == pytest.approx(np.average(areas, weights=support))
    for kind in ("macro", "weighted"):
        expected = sklearn_metrics.precision_recall_fscore_support(
            predictions.label, predictions.predicted, average=kind, zero_division=0
        )
        found = [means[f"{kind}_{name}"].value for name in ("precision", "recall", "f1")]
        assert found == pytest.approx(expected[:3])
    if len(areas) > 2:
        for kind in ("macro", "weighted"):
            expected_area = sklearn_metrics.roc_auc_score(
                predictions.label, probabilities, multi_class="ovr", average=kind
            )
            assert means[f"{kind}_auc"].value == pytest.approx(expected_area)


def test_the_area_of_every_class_against_the_rest() -> None:
    """Binned scores lose next to nothing."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 600)
    logits = generator.normal(0, 2, (600, 4)) + 2 * np.eye(4)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    for number, column in enumerate(probabilities.T):
        own = labels == number
        assert area(score_bins(column), own) == pytest.approx(sklearn_metrics.roc_auc_score(own, column), abs=1e-3)


def test_certain_predictions_are_distinguished() -> None:
    scores = score_bins(np.array([[1.0, 0, 0], [0, 1.0, 0]]))

    assert [area(scores[:, number], np.array([0, 1]) == number) for number in (0, 1)] == [1.0, 1.0]


def test_the_calibration_error_by_hand() -> None:
    found = [Classification(name, sure, 0.5, 1) for name, sure in (("a", 0.95), ("a", 0.95), ("a", 0.62), ("a", 0.61))]

    error = CalibrationError(columns(["a", "b", "a", "a"], found, ["a", "b"])).value

    assert error == pytest.approx((2 * abs(0.5 - 0.95) + abs(2 - 0.62 - 0.61)) / 4)


def test_what_the_images_take_is_what_is_missing() -> None:
    for seed in range(20):  # with a dozen images some classes are never predicted
        predictions, _ = predict(np.random.default_rng(seed), ROUGH, 12)
        for name, mean in class_means(predictions).items():
            fractions = 2 if name.endswith("auc") else 1  # a pair that is ranked wrongly is taken from by both
            assert mean.loss.sum() == pytest.approx(fractions * (1 - mean.value)), name
            assert mean.loss.max() <= mean.most + 1e-9, name


def test_without_weights_the_limits_are_the_exact_ones_of_a_fraction() -> None:
    """The weighted recall is the accuracy."""
    predictions, _ = predict(np.random.default_rng(0), ROUGH, 60)
    right = int((predictions.predicted == predictions.label).sum())

    mean = class_means(predictions)["weighted_recall"]

    exact = stats.binomtest(right, 60).proportion_ci(0.95, method="exact")
    assert (mean.interval(0.95).low, mean.interval(0.95).high) == pytest.approx((exact.low, exact.high))
    assert mean.at_least(0.7).broken == pytest.approx(stats.binom.cdf(right, 60, 0.7))
    assert mean.at_least(0.7).kept == pytest.approx(stats.binom.sf(right - 1, 60, 0.7))


def test_one_mistake_on_a_rare_class_proves_nothing() -> None:
    """It costs ten points of the macro recall, but it is one mistake."""
    label = np.array([0] * 55 + [1] * 5)
    predictions, _ = predict(np.random.default_rng(0), Model(classes=(0.5, 0.5), signal=9.0), 60)
    predictions = dataclasses.replace(
        predictions, label=label, predicted=np.where(np.arange(60) == 59, 0, label), scores=None
    )

    mean = class_means(predictions)["macro_recall"]

    assert mean.value == pytest.approx(0.9)
    assert mean.at_least(0.97).broken > 0.2
    assert mean.interval(0.95).low < 0.7


def test_areas_take_images_of_two_classes_and_scores() -> None:
    predictions, _ = predict(np.random.default_rng(0), ROUGH, 50)

    assert "macro_auc" not in class_means(dataclasses.replace(predictions, scores=None))
    assert "macro_auc" not in class_means(predictions.of(predictions.label == 0))


@pytest.mark.parametrize(("lost", "p"), [(4, 0.0625), (5, 0.03125), (8, 0.0039)])
def test_a_change_is_judged_by_the_images_that_differ_about_as_surely_as_by_the_sign_test(lost: int, p: float) -> None:
    before, _ = predict(np.random.default_rng(0), Model(classes=(0.5, 0.5), signal=9.0), 80)
    predicted = before.predicted.copy()
    predicted[:lost] = 1 - predicted[:lost]
    now = dataclasses.replace(before, predicted=predicted)

    found = class_means(now)["weighted_recall"].change_from(class_means(before)["weighted_recall"])

    assert found.value == pytest.approx(-lost / 80)
    assert p / 4 < found.worse_by_at_most(0.0).broken < 4 * p
    interval = found.interval(0.95)
    assert interval.low < found.value < interval.high


def test_no_change_is_no_evidence() -> None:
    predictions, _ = predict(np.random.default_rng(0), ROUGH, 80)
    mean = class_means(predictions)["macro_auc"]

    found = mean.change_from(mean)

    assert found.worse_by_at_most(0.0).broken > 0.4 and found.interval(0.95).low < 0 < found.interval(0.95).high


def test_the_calibration_error_of_a_calibrated_model_may_be_none() -> None:
    """It shows 0.06 with two hundred images, and 0 is not excluded."""
    predictions, _ = predict(np.random.default_rng(0), ROUGH, 200)

    found = CalibrationError(predictions)

    assert found.value > 0.04
    assert found.interval(0.95).low == 0.0 and found.interval(0.95).high < 0.2
    assert found.at_most(0.02).broken > 0.05 and found.at_most(0.3).kept < 0.01


def test_the_calibration_error_of_a_model_that_promises_too_much_is_found() -> None:
    predictions, _ = predict(np.random.default_rng(0), dataclasses.replace(ROUGH, sharpness=4.0), 200)

    assert CalibrationError(predictions).at_most(0.05).broken < 1e-4
