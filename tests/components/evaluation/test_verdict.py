"""The gate's rules, bound by bound: broken and kept only where the answers say so, in doubt otherwise."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from components.evaluation.slice_result import Measured, class_records
from components.evaluation.verdict import Verdict, judge
from core.errors import InputError
from tests.components.evaluation.predicted import CLASSES, measure, predictions


def judged(
    right: Sequence[bool],
    bounds: dict[str, Any],
    before: Sequence[bool] | None = None,
    slices: Sequence[str] | None = None,
    **wrong: float,
) -> Verdict:
    answers = predictions(right, before, slices)
    past = measure(answers, baseline=True) if before is not None else None
    return judge(measure(answers, **wrong), past, answers, CLASSES, bounds)


def of(good: int, bad: int) -> list[bool]:
    return [True] * good + [False] * bad


def states(verdict: Verdict) -> list[tuple[str, str, str]]:
    return [(j["slice"], j["kind"], j["state"]) for j in verdict.judged]


@pytest.mark.parametrize(
    ("right", "bound", "state"),
    [
        (of(160, 40), {"min": 0.9}, "broken"),
        (of(178, 22), {"min": 0.9}, "doubt"),
        (of(195, 5), {"min": 0.9}, "kept"),
        (of(12, 0), {"min": 0.9}, "doubt"),  # twelve right ones prove little
        (of(9, 3), {"min": 0.9}, "doubt"),
        (of(0, 12), {"min": 0.9}, "broken"),
        (of(160, 40), {"max": 0.5}, "broken"),
        (of(40, 160), {"max": 0.5}, "kept"),
    ],
)
def test_a_bound_is_broken_or_kept_only_where_the_images_say_so(right, bound: dict[str, float], state: str) -> None:
    verdict = judged(right, {"thresholds": {"accuracy": bound}})

    assert states(verdict) == [("overall", next(iter(bound)), state)]
    assert verdict.blessed == (state != "broken")
    assert bool(verdict.notes) == (state == "doubt")


@pytest.mark.parametrize(
    ("lost", "gained", "allowed", "state"),
    [
        (0, 0, 0.0, "doubt"),  # no difference at all: nothing is proven about a model that must not drop
        (0, 0, 0.05, "kept"),
        (6, 5, 0.02, "doubt"),
        (20, 2, 0.02, "broken"),
        (20, 2, 0.2, "kept"),
        (4, 0, 0.0, "doubt"),  # heads four times in a row
        (8, 0, 0.0, "broken"),
    ],
)
def test_a_drop_is_judged_on_the_images_where_the_models_differ(
    lost: int, gained: int, allowed: float, state: str
) -> None:
    now = [False] * lost + [True] * gained + of(170, 200 - 170 - lost - gained)
    before = [True] * lost + [False] * gained + now[lost + gained :]

    verdict = judged(now, {"thresholds": {"accuracy": {"max_drop": allowed}}}, before)

    assert states(verdict) == [("overall", "max_drop", state)]


def test_a_loss_drops_by_rising() -> None:
    bounds = {"thresholds": {"cross_entropy": {"max_drop": 0.1}}}

    assert not judged(of(60, 60), bounds, of(119, 1)).blessed
    assert judged(of(119, 1), bounds, of(60, 60)).blessed


def test_in_doubt_a_strict_gate_refuses() -> None:
    lenient = {"thresholds": {"accuracy": {"min": 0.9}}}

    passed, refused = judged(of(178, 22), lenient), judged(of(178, 22), {**lenient, "on_doubt": "refuse"})

    assert passed.blessed and "cannot tell whether it is truly below 0.9" in passed.notes[0]
    assert not refused.blessed and refused.notes == []
    assert refused.failures[0].message.endswith(
        "the images are too few to be sure of it, and evaluation.on_doubt is refuse"
    )
    assert judged(of(195, 5), {**lenient, "on_doubt": "refuse"}).blessed


def test_a_doubt_says_that_it_is_corrected_for_the_other_bounds() -> None:
    """The interval that is shown stands for itself, and leaves the bound out."""
    now, before = [*of(0, 15), *of(160, 5)], [*of(15, 0), *of(0, 2), *of(158, 5)]
    drop = {"max_drop": 0.03}

    (alone,) = judged(now, {"thresholds": {"accuracy": drop}}, before).failures
    verdict = judged(now, {"thresholds": {"accuracy": {"min": 0.7, **drop}}, "per_slice": {"accuracy": drop}}, before)

    assert alone.kind == "max_drop" and verdict.blessed
    assert verdict.notes[0].startswith(
        "accuracy drops from 0.9611 (the blessed model) to 0.8889 (change 95 %: -0.124 to -0.031, 15 images lost and "
        "2 gained): corrected for 3 bounds, 180 test images cannot tell whether it is by more than the 0.03 that is "
        "allowed; a true drop of"
    )


def test_a_failure_says_what_where_by_how_much_and_shows_the_pictures() -> None:
    light = ["day"] * 150 + ["night"] * 50
    right = [*of(148, 2), *of(10, 40)]
    bounds = {"per_slice": {"accuracy": {"min": 0.7, "min_examples": 30}}}

    (failure,) = judged(right, bounds, slices=light).failures

    assert (failure.slice, failure.kind, failure.value, failure.bound) == ("light=night", "per_slice_min", 0.2, 0.7)
    assert failure.low < 0.2 < failure.high and failure.p < 1e-6
    assert failure.mistakes == 40 and len(failure.pictures) == 40 and failure.pictures[0] == "a/0160.jpg"
    assert failure.message.startswith(
        "accuracy is 0.2000 (95 %: 0.112 to 0.330) on the slice light=night (50 test images); at least 0.7 is demanded"
    )
    assert failure.message.endswith("corrected for 2 bounds")


def test_a_drop_shows_the_pictures_that_were_right_before() -> None:
    before = [*of(90, 10)]
    now = [*[False] * 20, *before[20:]]

    (failure,) = judged(now, {"thresholds": {"accuracy": {"max_drop": 0.05}}}, before).failures

    assert failure.bound == pytest.approx(0.85) and failure.mistakes == 30
    assert {path[-8:-4] for path in failure.pictures[:20]} == {f"{n:04d}" for n in range(20)}
    assert failure.message.startswith(
        "accuracy drops from 0.9000 (the blessed model) to 0.7000 (change 95 %: -0.289 to -0.133, "
        "20 images lost and 0 gained) on 100 test images; by at most 0.05 is allowed; "
    )


def test_small_slices_are_not_judged_and_the_verdict_says_which() -> None:
    light = ["day"] * 150 + ["dusk"] * 29 + ["night"] * 30
    bounds = {"per_slice": {"accuracy": {"min": 0.7, "min_examples": 30}}}

    verdict = judged(of(150, 59), bounds, slices=light)

    assert states(verdict) == [("light=day", "per_slice_min", "kept"), ("light=night", "per_slice_min", "broken")]
    assert verdict.notes == [
        "1 of 3 slices have fewer than 30 test images and were not judged by accuracy: light=dusk (29)"
    ]


def test_many_slices_are_judged_together() -> None:
    """Each slice alone breaks its bound with p = 0.03: one of one is a finding, one of forty is to be expected."""
    one = [*of(12, 8)]
    bounds = {"per_slice": {"accuracy": {"min": 0.8, "min_examples": 10}}}
    many = [*one, *of(39 * 20, 0)]
    light = [str(number // 20) for number in range(800)]

    assert not judged(one, bounds).blessed
    verdict = judged(many, bounds, slices=light)
    assert verdict.blessed
    assert verdict.notes == [
        "per_slice.accuracy.min: corrected for 40 bounds, for 1 of 40 slices the test images cannot tell whether "
        "0.8 is kept: light=0: 0.6000 (95 %: 0.387 to 0.781)"
    ]


def test_drops_are_bounded_per_slice_too() -> None:
    light = ["day"] * 100 + ["night"] * 100
    now = [*of(90, 10), *of(60, 40)]
    before = [*of(90, 10), *of(90, 10)]
    bounds = {"per_slice": {"accuracy": {"max_drop": 0.05, "min_examples": 30}}}

    verdict = judged(now, bounds, before, light)

    assert [(f.slice, f.kind) for f in verdict.failures] == [("light=night", "per_slice_max_drop")]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_no_number_keeps_no_bound(value: float) -> None:
    verdict = judged(of(50, 0), {"thresholds": {"cross_entropy": {"max": 9e9}}}, cross_entropy=value)

    assert not verdict.blessed
    assert verdict.failures[0].message.startswith("cross_entropy is not a finite number (50 test images)")
    json.dumps(verdict.to_dict(), allow_nan=False)


def test_without_a_baseline_a_drop_is_not_judged_and_the_verdict_says_why() -> None:
    answers = predictions(of(1, 99))
    bounds = {"thresholds": {"accuracy": {"max_drop": 0.01}}, "on_doubt": "refuse"}

    verdict = judge(measure(answers), None, answers, CLASSES, bounds, "the last blessed model no longer loads: bad")

    assert verdict.blessed and verdict.not_compared == "the last blessed model no longer loads: bad"
    assert verdict.notes == ["max_drop of accuracy does not apply: the last blessed model no longer loads: bad"]


def test_bounds_per_slice_without_slices_are_noted() -> None:
    answers = predictions(of(50, 0))
    bounds = {"per_slice": {"accuracy": {"min": 0.7}}}

    assert judge(measure(answers)[:1], None, answers, CLASSES, bounds).notes == [
        "per_slice.accuracy does not apply: evaluation.slices names no slices"
    ]


@pytest.mark.parametrize("bounds", [{}, {"thresholds": {}}, {"thresholds": {"accuracy": {"min": None}}}])
def test_nothing_demanded_is_blessed_and_noted(bounds: dict[str, Any]) -> None:
    verdict = judged(of(1, 1), bounds)

    assert verdict.blessed
    assert verdict.notes == ["nothing is demanded of the model: set evaluation.thresholds to have it judged"]


def test_the_verdict_holds_every_slice_with_intervals_baseline_and_change() -> None:
    light = ["day"] * 30 + ["night"] * 10
    verdict = judged(of(30, 10), {}, of(35, 5), light)

    accuracy = verdict.metrics["accuracy"]
    assert (accuracy["overall"], accuracy["baseline"]) == (0.75, 0.875)
    assert accuracy["low"] < 0.75 < accuracy["high"]
    assert accuracy["change"]["value"] == -0.125 and accuracy["change"]["high"] < 0
    night = {s["slice"]: s for s in verdict.slices}["light=night"]
    assert night["examples"] == 10
    assert night["metrics"]["accuracy"] == {"value": 0.0, "low": 0.0, "high": pytest.approx(0.2775, abs=1e-4)}
    assert night["baseline"]["accuracy"]["value"] == 0.5 and night["change"]["accuracy"]["value"] == -0.5
    assert night["metrics"]["macro_auc"] == {"value": None, "low": None, "high": None}
    json.dumps(verdict.to_dict(), allow_nan=False)


def test_slices_that_are_judged_have_their_classes_and_confusions() -> None:
    answers = predictions(of(30, 15), slices=["day"] * 25 + ["night"] * 20)
    counts = {"overall": [[0, 0], [0, 0]], "light=day": [[13, 0], [0, 12]], "light=night": [[3, 7], [8, 2]]}
    measured = [
        dataclasses.replace(m, confusion=np.array([[*row, 0] for row in counts[m.slice]] + [[0, 0, 0]]), auc=[0.5] * 3)
        for m in measure(answers)
    ]
    bounds = {"per_slice": {"accuracy": {"min": 0.7, "min_examples": 21}}}

    day, night = judge(measured, None, answers, [*CLASSES, "c"], bounds).slices

    assert [(c["class"], c["predicted"], c["examples"]) for c in day["confusion"]] == [("a", "a", 13), ("b", "b", 12)]
    assert [(c["class"], c["examples"]) for c in day["classes"]] == [
        ("a", 13),
        ("b", 12),
    ]  # no image is of c, or told so
    assert day["classes"][0]["metrics"]["recall"] == {"value": 1.0, "low": pytest.approx(0.772, abs=1e-3), "high": 1.0}
    assert day["classes"][0]["metrics"]["auc"]["value"] == 0.5
    assert night["classes"] == night["confusion"] == []  # too small to be judged
    json.dumps(day, allow_nan=False)


def test_a_slice_of_one_class_has_no_area() -> None:
    """TFMA finds one where the others are of a class that the model does not know, which no confusion counts."""
    measured = Measured((), "light=day", 30, {}, auc=[0.9, math.nan], confusion=np.array([[20, 5], [0, 0]]))

    (first, _) = class_records(measured, CLASSES, 0.95)

    assert first["metrics"]["auc"] == {"value": None, "low": None, "high": None}


@pytest.mark.parametrize("group", ["thresholds", "per_slice"])
def test_a_bound_on_an_unknown_metric_is_the_users_mistake(group: str) -> None:
    with pytest.raises(InputError, match=rf"evaluation\.{group}\.acuracy: .* measured are accuracy, cross_entropy"):
        judged(of(1, 1), {group: {"acuracy": {"min": 0.5}}})


def test_nothing_measured_is_the_users_mistake() -> None:
    with pytest.raises(InputError, match="is the test split empty"):
        judge([], None, [], CLASSES, {})
