"""Intervals in closed form: how often they hold the truth, counted over all outcomes; and against other libraries.

An interval that holds 95 % does so on average over what may be true: outcomes of few images are few, so the coverage of
one truth lies above or below.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score

from components.evaluation.intervals import Interval, auc, f1, paired_change, tango_score, unpaired_change, wilson

NOMINAL = 0.95


def holds(interval: Interval, truth: float) -> bool:
    return interval.low - 1e-9 <= truth <= interval.high + 1e-9


def coverage_of_wilson(count: int) -> np.ndarray:
    """Counted, of fractions from 0.01 to 0.99."""
    shares = np.linspace(0.01, 0.99, 197)
    found = [wilson(successes, count) for successes in range(count + 1)]
    inside = np.array([[holds(interval, share) for share in shares] for interval in found])
    return (stats.binom.pmf(np.arange(count + 1)[:, None], count, shares) * inside).sum(axis=0)


@pytest.mark.parametrize(("count", "least"), [(12, 0.886), (30, 0.92), (100, 0.92), (500, 0.93)])
def test_wilsons_interval_holds_95_percent_on_average_and_never_much_less(count: int, least: float) -> None:
    coverage = coverage_of_wilson(count)

    assert coverage.mean() == pytest.approx(NOMINAL, abs=0.005)
    assert coverage.min() >= least


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilsons_limits_are_those_of_scipy(confidence: float) -> None:
    for successes, count in [(0, 1), (0, 12), (9, 12), (12, 12), (487, 500)]:
        theirs = stats.binomtest(successes, count).proportion_ci(confidence, method="wilson")
        ours = wilson(successes, count, confidence)

        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize(("successes", "count"), [(0, 0), (13, 12), (-1, 12)])
def test_what_is_no_fraction_has_no_interval(successes: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} of {count} is not a fraction"):
        wilson(successes, count)


tango = functools.lru_cache(maxsize=None)(paired_change)


@pytest.mark.parametrize("count", [12, 30])
@pytest.mark.parametrize(("gained", "lost"), [(0.05, 0.05), (0.05, 0.15), (0.1, 0.3), (0.25, 0.25), (0.02, 0.2)])
def test_tangos_interval_holds_94_percent_or_more(count: int, gained: float, lost: float) -> None:
    """Counted: every number of images gained and lost, by its multinomial probability."""
    held = sum(
        stats.multinomial.pmf([g, n, count - g - n], count, [gained, lost, 1 - gained - lost])
        for g in range(count + 1)
        for n in range(count + 1 - g)
        if g + n <= stats.binom.isf(1e-6, count, gained + lost) and holds(tango(g, n, count), gained - lost)
    )

    assert 0.94 <= held <= 1


def test_tangos_score_is_mcnemars_where_no_change_is_asked_for_and_its_limits_are_where_it_is_the_quantile() -> None:
    assert tango_score(15, 5, 100, 0.0) == pytest.approx((15 - 5) / math.sqrt(15 + 5))

    found = paired_change(15, 5, 100)

    assert found.value == pytest.approx(0.1)
    for limit, score in ((found.low, 1.959964), (found.high, -1.959964)):
        assert tango_score(15, 5, 100, limit) == pytest.approx(score, abs=1e-5)


def test_nothing_that_differs_still_has_an_interval() -> None:
    found = paired_change(0, 0, 100)

    assert found.value == 0 and found.low == pytest.approx(-found.high) and 0.02 < found.high < 0.06


def drawn(generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of one class: which images are of it, and which are told to be; F1 is truly 2 · 0.32 / (0.4 + 0.42)."""
    true = generator.random(count) < 0.4
    return true, generator.random(count) < np.where(true, 0.8, 1 / 6)


def test_the_limits_of_f1_hold_95_percent_and_its_value_is_scikit_learns() -> None:
    generator, held = np.random.default_rng(0), []
    for _ in range(1000):
        true, told = drawn(generator, 40)
        found = f1(int((true & told).sum()), int(told.sum()), int(true.sum()))
        held.append(holds(found, 2 * 0.32 / (0.4 + 0.42)))

    assert found.value == pytest.approx(f1_score(true, told))
    assert found.count == (true | told).sum()
    assert found.value / (2 - found.value) == pytest.approx(jaccard_score(true, told))
    assert np.mean(held) == pytest.approx(NOMINAL, abs=0.02)


@pytest.mark.parametrize("distance", [0.5, 1.5])
def test_the_limits_of_an_area_under_a_roc_curve_hold_95_percent(distance: float) -> None:
    """Normal scores, `distance` standard deviations apart; the area is then known."""
    generator, truth, held = np.random.default_rng(1), stats.norm.cdf(distance / math.sqrt(2)), []
    for _ in range(500):
        positives, negatives = generator.normal(distance, size=20), generator.normal(size=60)
        area = stats.mannwhitneyu(positives, negatives).statistic / (20 * 60)
        held.append(holds(auc(area, 20, 60), float(truth)))

    assert area == pytest.approx(roc_auc_score([1] * 20 + [0] * 60, [*positives, *negatives]))
    assert np.mean(held) >= NOMINAL - 0.02


@pytest.mark.parametrize("area", [0.0, 1.0])
def test_a_perfect_auc_still_has_a_wide_interval(area: float) -> None:
    found = auc(area, 5, 20)

    assert found.low <= area <= found.high and found.high - found.low > 0.05


def test_the_limits_of_a_difference_are_newcombes() -> None:
    """The example of his paper (Statistics in Medicine 17, 1998, table II): 56 of 70 less 48 of 80."""
    found = unpaired_change(before=wilson(48, 80), after=wilson(56, 70))

    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_the_limits_of_a_difference_hold_95_percent() -> None:
    """Counted: every number of right answers of 20 and of 30 images."""
    chances = np.outer(stats.binom.pmf(np.arange(21), 20, 0.7), stats.binom.pmf(np.arange(31), 30, 0.9))
    inside = np.array(
        [[holds(unpaired_change(wilson(a, 20), wilson(b, 30)), 0.2) for b in range(31)] for a in range(21)]
    )

    assert (chances * inside).sum() == pytest.approx(NOMINAL, abs=0.02)
