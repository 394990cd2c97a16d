"""Metrics: every one that settings may bound is implemented, and none besides."""

import numpy as np

from components.evaluation.metrics import KINDS, Estimates
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
