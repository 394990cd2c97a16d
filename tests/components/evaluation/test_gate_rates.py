"""How often the gate errs, measured: models of known quality are judged thousands of times. docs/gate.md has the table.

What docs/gate.md says is checked to within two standard errors of the number of draws (`sure`); seeds are fixed. Where
the outcomes can be counted, they are counted and not drawn.
"""

import functools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from components.evaluation.bounds import judge_bounds, read_bounds
from components.evaluation.calibration import CalibrationError
from components.evaluation.class_means import class_means
from components.evaluation.metrics import Estimates, covered
from components.evaluation.predictions import Predictions
from components.evaluation.significance import PValues, at_least, drop_at_most, fraction_at_least
from components.evaluation.slice_result import SliceResult
from core.artifacts.predictions import BASELINE, CANDIDATE
from core.artifacts.verdict import OVERALL
from core.metrics import AUC, CALIBRATION, COVERED, LOSS
from core.settings.converter import from_json
from core.settings.evaluation import EvaluationSettings
from tests.components.evaluation.models import Model, predict

RISK = 0.05
DRAWS = 400
drop_test = functools.lru_cache(maxsize=None)(drop_at_most)


@pytest.mark.parametrize("count", [12, 30, 100, 500])
@pytest.mark.parametrize("bound", [0.5, 0.7, 0.9, 0.97])
def test_a_fraction_at_its_bound_is_refused_and_passed_as_proven_at_most_at_the_risk(count: int, bound: float) -> None:
    """Counted: every number of right images, by its probability."""
    successes = np.arange(count + 1)
    chances = stats.binom.pmf(successes, count, bound)
    found = [fraction_at_least(int(s), count, bound) for s in successes]

    assert chances[[e.broken <= RISK for e in found]].sum() <= RISK + 1e-9
    assert chances[[e.kept <= RISK for e in found]].sum() <= RISK + 1e-9


def sure(rate: float, draws: int) -> float:
    """Two standard errors of a fraction of `draws` that is truly `rate`."""
    return 2 * math.sqrt(rate * (1 - rate) / draws)


def drop_rates(count: int, most: float, drop: float, gained: float) -> tuple[float, float]:
    """Counted: the chances to be refused, and to be passed as proven, for a true drop and fraction of gained images."""
    lost = drop + gained
    refused = proven = 0.0
    for changed in range(count + 1):  # images on which the models differ
        chance = stats.binom.pmf(changed, count, lost + gained)
        if chance < 1e-7:
            continue
        losses = np.arange(changed + 1)
        chances = chance * stats.binom.pmf(losses, changed, lost / (lost + gained) if lost + gained else 0.5)
        found = [drop_test(changed - int(n), int(n), count, most) for n in losses]
        refused += chances[[e.broken <= RISK for e in found]].sum()
        proven += chances[[e.kept <= RISK for e in found]].sum()
    return refused, proven


@pytest.mark.parametrize("count", [12, 30, 60])
@pytest.mark.parametrize("most", [0.0, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("gained", [0.0, 0.02, 0.1, 0.3])
def test_a_drop_of_just_what_is_allowed_is_refused_and_proven_at_most_at_the_risk(
    count: int, most: float, gained: float
) -> None:
    refused, proven = drop_rates(count, most, drop=most, gained=gained)

    assert refused <= RISK + 1e-9
    assert proven <= RISK + 1e-9


COUNTS = np.array([12, 15, 20, 30, 30, 40, 40, 50, 60, 80] * 4)
"""Test images of forty slices, 1,508 in all."""

DEMANDS = {
    "thresholds": {"accuracy": {"min": 0.8, "max_drop": 0.03}},
    "per_slice": {"accuracy": {"min": 0.8, "min_examples": 12}},
}
"""Bounds on what configs/digits.yaml and configs/flowers.yaml bound: half of the risk is the slices'."""


@pytest.mark.parametrize("config", ["digits", "flowers"])
def test_the_shipped_settings_bound_what_is_measured_here(config: str) -> None:
    evaluation = yaml.safe_load(Path(f"configs/{config}.yaml").read_text())["evaluation"]

    def demanded(bounds: dict[str, Any]) -> dict[str, Any]:
        return {group: {metric: set(bounds[group][metric]) for metric in bounds[group]} for group in DEMANDS}

    assert demanded(evaluation) == demanded(DEMANDS)


def result(name: str, right: np.ndarray, before: np.ndarray | None = None) -> SliceResult:
    """What the gate judges, of a slice on which the model and the last blessed one are right or not, bool [n]."""

    def predictions(right: np.ndarray) -> Predictions:
        zeros = np.zeros(len(right))
        return Predictions(label=zeros, predicted=~right, rank=zeros, loss=zeros, confidence=zeros)

    models = {CANDIDATE: right} if before is None else {CANDIDATE: right, BASELINE: before}
    measured = {model: {"accuracy": np.count_nonzero(given) / len(given)} for model, given in models.items()}
    estimates = Estimates(*(predictions(given) for given in models.values()))
    parts = () if name == OVERALL else (tuple(name.split("=")),)
    return SliceResult(parts, len(right), measured, np.arange(len(right)), estimates, 1 - RISK)


def broken(seed: int, counts: np.ndarray, quality: np.ndarray, before: float) -> list[set[str]]:
    """Where `judge_bounds` finds `DEMANDS` broken, in each draw.

    Args:
        seed: of the draws.
        counts: images of the slices, which make up the whole split.
        quality: how often the model is truly right on each.
        before: how often the last blessed one is, everywhere; neither knows of the other.
    """
    generator, ends = np.random.default_rng(seed), np.cumsum(counts)[:-1]
    bounds, found = from_json(json.dumps(DEMANDS), EvaluationSettings), []
    for _ in range(DRAWS):
        right = generator.random(counts.sum()) < np.repeat(quality, counts)
        past = generator.random(counts.sum()) < before
        slices = [result(f"part={n}", part) for n, part in enumerate(np.split(right, ends))]
        overall = result(OVERALL, right, past)
        judged = judge_bounds(overall, slices, read_bounds(bounds, overall), 1 - RISK)
        found.append({j.result.slice for j in judged if j.state == "broken"})
    return found


def test_forty_slices_and_the_whole_at_their_bounds_do_not_add_up_to_false_refusals() -> None:
    """Eight of ten are demanded everywhere, and a drop of three points is allowed: this is just what there is."""
    found = broken(seed=1, counts=COUNTS, quality=np.full(len(COUNTS), 0.8), before=0.83)

    assert np.mean([bool(where) for where in found]) <= 0.03 + sure(0.03, DRAWS)


def test_point_values_would_refuse_seven_of_ten_good_models() -> None:
    """What the gate did before it knew of chance: a model ten points above the bound on every slice."""
    right = np.random.default_rng(2).binomial(COUNTS, 0.9, (4000, len(COUNTS))) / COUNTS

    assert (right < 0.8).any(axis=1).mean() >= 0.73 - sure(0.73, 4000)
    assert not any(broken(seed=2, counts=COUNTS, quality=np.full(len(COUNTS), 0.9), before=0.9))


@pytest.mark.parametrize(("count", "rate"), [(30, 0.56), (60, 0.95), (100, 0.99)])
def test_one_bad_slice_among_forty_is_found(count: int, rate: float) -> None:
    """Right about half of its images, where eight of ten are demanded; the other slices are at ninety percent."""
    counts, quality = COUNTS.copy(), np.full(len(COUNTS), 0.9)
    counts[0], quality[0] = count, 0.5

    found = np.mean(["part=0" in where for where in broken(seed=3, counts=counts, quality=quality, before=0.9)])

    assert found >= rate - sure(rate, DRAWS)


@pytest.mark.parametrize(("count", "drop", "rate"), [(100, 0.15, 0.96), (500, 0.05, 0.95), (100, 0.05, 0.33)])
def test_a_real_drop_is_found_the_surer_the_more_images(count: int, drop: float, rate: float) -> None:
    """No drop is allowed; three images of a hundred are gained besides."""
    assert drop_rates(count, 0.0, drop, gained=0.03)[0] == pytest.approx(rate, abs=0.005)


@pytest.mark.parametrize("count", [12, 30, 200])
def test_a_loss_at_its_bound_is_refused_at_most_at_the_risk(count: int) -> None:
    """Cross-entropies are skewed: most images cost little, a few much."""
    losses = np.random.default_rng(4).exponential(0.5, (4000, count)) ** 1.5
    mean = 0.5**1.5 * float(stats.expon.expect(lambda x: x**1.5))
    errors = losses.std(axis=1, ddof=1) / np.sqrt(count)

    refused = [at_least(-m, e, count, -mean).broken <= RISK for m, e in zip(losses.mean(axis=1), errors, strict=True)]

    assert np.mean(refused) <= RISK + sure(RISK, 4000)


EVEN = Model(classes=(0.5, 0.5), signal=1.0)
RARE = Model(classes=(0.4, 0.25, 0.2, 0.1, 0.05), signal=1.5)
GOOD = Model(classes=RARE.classes, signal=3.0)
BOASTFUL = Model(classes=RARE.classes, signal=1.5, sharpness=2.5)

FEW_DRAWS = 300


@functools.cache
def truth(model: Model) -> dict[str, float]:
    predictions, _ = predict(np.random.default_rng(0), model, 50_000)
    means = {name: mean.value for name, mean in class_means(predictions).items()}
    return means | {CALIBRATION: CalibrationError(predictions).value}


def fractions_below_risk(found: list[dict[str, float]]) -> dict[str, float]:
    """By metric, how many of the p-values call the bound broken, or kept."""
    return {name: float(np.mean([p.get(name, 1.0) <= RISK for p in found])) for name in found[0]}


def check_rates(found: list[dict[str, PValues]], rate: float, rate_of_areas: float = 0.02) -> None:
    refused = fractions_below_risk([{name: e.broken for name, e in one.items()} for one in found])
    proven = fractions_below_risk([{name: e.kept for name, e in one.items()} for one in found])
    for name in refused:
        most = rate_of_areas if name.endswith(AUC) else rate
        assert refused[name] <= most + sure(most, len(found)), (name, refused)
        assert proven[name] <= most + sure(most, len(found)), (name, proven)


@pytest.mark.parametrize("count", [30, 200])
@pytest.mark.parametrize("model", [EVEN, RARE, GOOD], ids=["even", "rare", "good"])
def test_means_over_classes_at_their_bounds_are_refused_and_proven_at_most_at_the_risk(
    model: Model, count: int
) -> None:
    """Some classes have one image or none."""
    generator, bounds = np.random.default_rng(5), truth(model)
    found = []
    for _ in range(FEW_DRAWS):
        means = class_means(predict(generator, model, count)[0])
        found.append({name: mean.at_least(bounds[name]) for name, mean in means.items()})

    check_rates(found, 0.05)


@pytest.mark.parametrize("count", [30, 200])
@pytest.mark.parametrize("model", [EVEN, RARE, GOOD, BOASTFUL], ids=["even", "rare", "good", "boastful"])
def test_a_calibration_error_at_its_bound_is_refused_and_proven_at_most_at_the_risk(model: Model, count: int) -> None:
    """It shows more than there is: 0.06 where 200 images of a calibrated model were asked."""
    generator, bound = np.random.default_rng(9), truth(model)[CALIBRATION]

    check_rates(
        [{CALIBRATION: CalibrationError(predict(generator, model, count)[0]).at_most(bound)} for _ in range(FEW_DRAWS)],
        0.04,
    )


@pytest.mark.parametrize("count", [30, 200])
@pytest.mark.parametrize("model", [RARE, GOOD], ids=["rare", "good"])
def test_means_over_classes_that_do_not_drop_are_refused_at_most_at_the_risk(model: Model, count: int) -> None:
    """Two models of one quality that know nothing of each other; no drop is allowed."""
    generator = np.random.default_rng(6)
    found = []
    for _ in range(FEW_DRAWS):
        before, _ = predict(generator, model, count)
        now, _ = predict(generator, model, count, before.label)
        then = class_means(before)
        found.append(
            {name: m.change_from(then[name]).worse_by_at_most(0.0).broken for name, m in class_means(now).items()}
        )

    refused = fractions_below_risk(found)
    assert max(refused.values()) <= 0.04 + sure(0.04, FEW_DRAWS), refused


@pytest.mark.parametrize("count", [30, 200])
@pytest.mark.parametrize("model", [EVEN, RARE, GOOD, BOASTFUL], ids=["even", "rare", "good", "boastful"])
def test_an_accuracy_at_coverage_at_its_bound_is_refused_and_proven_at_most_at_the_risk(
    model: Model, count: int
) -> None:
    generator = np.random.default_rng(15)
    bounds = {name: found.value for name, found in covered(predict(generator, model, 50_000)[0]).items()}
    found = []
    for _ in range(FEW_DRAWS):
        estimates = covered(predict(generator, model, count)[0])
        found.append({name: estimate.at_least(bounds[name]) for name, estimate in estimates.items()})

    check_rates(found, RISK)


@pytest.mark.parametrize("count", [30, 200])
@pytest.mark.parametrize("model", [RARE, GOOD], ids=["rare", "good"])
def test_an_accuracy_at_coverage_that_does_not_drop_is_refused_at_most_at_the_risk(model: Model, count: int) -> None:
    """Two models of one quality that know nothing of each other, and so withhold the labels of other images."""
    generator, found = np.random.default_rng(16), []
    for _ in range(FEW_DRAWS):
        before, _ = predict(generator, model, count)
        now, _ = predict(generator, model, count, before.label)
        compared = Estimates(now, before)
        found.append({name: compared.change(name).worse_by_at_most(0.0).broken for name in COVERED})

    assert max(fractions_below_risk(found).values()) <= RISK + sure(RISK, FEW_DRAWS), fractions_below_risk(found)


def rises(seed: int, now: Model, before: Model, count: int, draws: int) -> list[dict[str, PValues]]:
    """What the gate finds of the rises from one model to another that knows nothing of it; none is allowed."""
    generator, found = np.random.default_rng(seed), []
    for _ in range(draws):
        past, _ = predict(generator, before, count)
        compared = Estimates(predict(generator, now, count, past.label)[0], past)
        found.append({name: compared.change(name).worse_by_at_most(0.0) for name in (LOSS, CALIBRATION)})
    return found


@pytest.mark.parametrize("count", [30, 100])
@pytest.mark.parametrize("model", [RARE, BOASTFUL], ids=["rare", "boastful"])
def test_losses_and_calibration_errors_that_do_not_rise_are_refused_at_most_at_the_risk(
    model: Model, count: int
) -> None:
    found = [{name: e.broken for name, e in one.items()} for one in rises(10, model, model, count, draws=150)]

    assert max(fractions_below_risk(found).values()) <= RISK + sure(RISK, len(found)), fractions_below_risk(found)


def test_a_model_whose_calibration_error_only_shows_more_by_chance_is_not_taken_for_a_worse_one() -> None:
    """Both are calibrated, and the earlier one is surer and more often right: chance adds less to what it shows."""
    found = rises(11, RARE, GOOD, count=200, draws=100)

    assert np.mean([one[CALIBRATION].broken <= RISK for one in found]) <= RISK + sure(RISK, len(found))
    assert np.mean([one[LOSS].broken <= RISK for one in found]) > 0.99


def test_that_a_calibration_error_does_not_rise_is_said_a_little_too_often() -> None:
    """Both are calibrated, and the later one is surer: it shows less, by chance alone."""
    found = rises(14, GOOD, RARE, count=200, draws=100)

    assert np.mean([one[CALIBRATION].kept <= RISK for one in found]) <= 0.07 + sure(0.07, len(found))


def test_the_interval_of_a_rise_holds_95_percent_where_one_model_shows_more_by_chance() -> None:
    """Both are calibrated: nothing rises."""
    generator, held = np.random.default_rng(13), []
    for _ in range(60):
        before, _ = predict(generator, GOOD, 60)
        now, _ = predict(generator, RARE, 60, before.label)
        found = CalibrationError(now).change_from(CalibrationError(before)).interval(0.95)
        assert found.low <= found.value <= found.high
        held.append(found.low <= 0 <= found.high)

    assert np.mean(held) >= 0.95 - sure(0.95, len(held))


def test_a_calibration_error_that_rises_is_found() -> None:
    """By 0.17, 200 images."""
    found = [one[CALIBRATION].broken <= RISK for one in rises(12, BOASTFUL, RARE, count=200, draws=60)]

    assert np.mean(found) >= 0.96 - sure(0.96, len(found))


@pytest.mark.parametrize(("count", "rate"), [(100, 0.8), (300, 0.99)])
def test_a_model_that_is_worse_than_its_macro_f1_must_be_is_found_the_surer_the_more_images(
    count: int, rate: float
) -> None:
    """Fifteen points below the bound, and one image of twenty is of the rarest class."""
    generator = np.random.default_rng(7)
    bound = truth(RARE)["macro_f1"] + 0.15

    found = [class_means(predict(generator, RARE, count)[0])["macro_f1"].at_least(bound).broken for _ in range(200)]

    assert np.mean(np.array(found) <= RISK) >= rate - sure(rate, 200)


def test_a_model_that_promises_too_much_is_found() -> None:
    """Its calibration error is 0.18, and 0.1 is allowed; 200 images."""
    generator = np.random.default_rng(8)
    assert truth(BOASTFUL)[CALIBRATION] == pytest.approx(0.18, abs=0.01)

    found = [CalibrationError(predict(generator, BOASTFUL, 200)[0]).at_most(0.1).broken for _ in range(200)]

    assert np.mean(np.array(found) <= RISK) >= 0.75 - sure(0.75, 200)
