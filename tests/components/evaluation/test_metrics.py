"""Metrics: every one that settings may bound is implemented, and none besides."""

import dataclasses

import numpy as np
import pytest

from components.evaluation.metrics import KINDS, Estimates, covered
from core.metrics import METRICS
from tests.components.evaluation.models import Model, predict


def test_what_settings_may_bound_is_what_is_implemented() -> None:
    assert sorted(name for names in KINDS for name in names) == sorted(METRICS)


def test_every_metric_has_an_interval_and_a_change() -> None:
    generator, model = np.random.default_rng(0), Model(classes=(0.5, 0.3, 0.2), signal=1.0)
    before, _ = predict(generator, model, 60)
    now, _ = predict(generator, model, 60, before.label)
    estimates = Estimates(now, before)

    for metric in METRICS:
        assert len(estimates.of(metric)) == 2
        for found in (*estimates.of(metric), estimates.change(metric)):
            interval = found.interval(0.95)
            assert interval.low <= found.value == interval.value <= interval.high, metric


def test_accuracy_at_coverage_is_that_of_the_labels_that_are_given() -> None:
    made, _ = predict(np.random.default_rng(1), Model(classes=(0.5, 0.3, 0.2), signal=1.0), 500)
    coverage, accuracy = covered(made).values()

    assert coverage.value == made.labeled.mean() < 1
    assert accuracy.value == pytest.approx(made.right[made.labeled].mean())
    assert accuracy.value > made.right.mean()


def test_where_no_label_is_given_none_is_wrong_and_nothing_is_proven() -> None:
    made, _ = predict(np.random.default_rng(1), Model(classes=(0.5, 0.5), signal=1.0), 40)
    coverage, accuracy = covered(dataclasses.replace(made, labeled=np.zeros(40, bool))).values()

    assert (coverage.value, accuracy.value) == (0, 1)
    tested = accuracy.at_least(0.95)
    assert tested.broken > 0.9 and tested.kept > 0.9
    assert accuracy.interval(0.95).low < 0.05
