"""The gate's rules, bound by bound."""

import json
import math
from typing import Any

import pytest

from components.verdict import Measured, Verdict, judge
from trainer.errors import InputError


def measured(slice_name: str = "overall", examples: int = 100, **metrics: float) -> Measured:
    return Measured(slice_name, examples, metrics or {"accuracy": 0.9, "cross_entropy": 0.5})


def judge_overall(
    value: float, bound: dict[str, float], past: float | None = None, metric: str = "accuracy"
) -> Verdict:
    baseline = None if past is None else [measured(**{metric: past})]
    return judge([measured(**{metric: value})], baseline, {"thresholds": {metric: bound}})


@pytest.mark.parametrize(
    ("value", "bound", "kind"),
    [
        (0.9, {"min": 0.9}, None),
        (0.8999999761581421, {"min": 0.9}, None),  # 0.9 in float32
        (0.8999, {"min": 0.9}, "min"),
        (0.5, {"max": 0.5}, None),
        (0.51, {"max": 0.5}, "max"),
        (math.nan, {"min": 0.0}, "min"),
        (math.nan, {"max": 1.0}, "max"),
        (math.inf, {"min": 0.0}, "min"),
        (math.inf, {"max": 1e300}, "max"),
    ],
)
def test_bounds_on_the_whole_split(value: float, bound: dict[str, float], kind: str | None) -> None:
    verdict = judge_overall(value, bound)

    assert [f.kind for f in verdict.failures] == ([kind] if kind else [])
    assert verdict.blessed == (kind is None)


@pytest.mark.parametrize(
    ("metric", "value", "past", "passes"),
    [
        ("accuracy", 0.89, 0.9, True),  # 0.9 - 0.89 is a little more than 0.01 in binary
        ("accuracy", 0.88, 0.9, False),
        ("accuracy", 0.99, 0.9, True),
        ("accuracy", math.nan, 0.9, False),
        ("cross_entropy", 0.51, 0.5, True),
        ("cross_entropy", 0.52, 0.5, False),
        ("cross_entropy", 0.1, 0.5, True),
    ],
)
def test_a_drop_is_against_the_baseline_and_a_loss_drops_by_rising(
    metric: str, value: float, past: float, passes: bool
) -> None:
    verdict = judge_overall(value, {"max_drop": 0.01}, past, metric)

    assert verdict.blessed == passes
    assert [f.kind for f in verdict.failures] == ([] if passes else ["max_drop"])
    assert verdict.notes == []


def test_a_failure_says_what_where_and_by_how_much() -> None:
    verdict = judge_overall(0.8, {"min": 0.85, "max_drop": 0.05}, past=0.9)

    by_kind = {f.kind: f for f in verdict.failures}
    assert (by_kind["min"].value, by_kind["min"].bound, by_kind["min"].slice) == (0.8, 0.85, "overall")
    assert by_kind["min"].message == "accuracy is 0.8000 (100 test images); at least 0.85 is demanded"
    assert by_kind["max_drop"].bound == pytest.approx(0.85)
    assert by_kind["max_drop"].message == (
        "accuracy drops from 0.9000 (the blessed model) to 0.8000 on 100 test images; by at most 0.05 is allowed"
    )


def test_without_a_baseline_a_drop_is_not_judged_and_the_verdict_says_so() -> None:
    verdict = judge_overall(0.1, {"max_drop": 0.01})

    assert verdict.blessed
    (note,) = verdict.notes
    assert note.startswith("max_drop of accuracy does not apply: there is no blessed model to compare with")
    assert verdict.metrics == {"accuracy": {"overall": 0.1, "baseline": None}}


def test_a_baseline_that_could_not_be_measured_blocks_nothing() -> None:
    verdict = judge_overall(0.1, {"max_drop": 0.01}, past=math.nan)

    assert verdict.blessed
    assert verdict.notes == ["max_drop of accuracy does not apply: the blessed model's accuracy is not a number"]


PER_SLICE = {"per_slice": {"accuracy": {"min": 0.7, "max": None, "min_examples": 30}}}


def test_slices_are_judged_where_they_are_large_enough() -> None:
    verdict = judge(
        [
            measured(),
            measured("label=tulips", 29, accuracy=0.1),
            measured("label=roses", 30, accuracy=0.69),
            measured("label=daisy", 500, accuracy=0.7),
        ],
        None,
        PER_SLICE,
    )

    assert [(f.slice, f.kind, f.value, f.bound) for f in verdict.failures] == [
        ("label=roses", "per_slice_min", 0.69, 0.7)
    ]
    assert verdict.failures[0].message == (
        "accuracy is 0.6900 on the slice label=roses (30 test images); at least 0.7 is demanded"
    )
    assert verdict.notes == [
        "1 of 3 slices have fewer than 30 test images and were not judged by accuracy: label=tulips (29)"
    ]


def test_an_upper_bound_per_slice() -> None:
    bounds = {"per_slice": {"cross_entropy": {"max": 0.5, "min_examples": 1}}}

    verdict = judge([measured(), measured("label=a", 5, cross_entropy=0.6)], None, bounds)

    assert [f.kind for f in verdict.failures] == ["per_slice_max"]


def test_a_metric_missing_on_a_slice_is_no_pass() -> None:
    verdict = judge([measured(), measured("label=a", 50, cross_entropy=0.1)], None, PER_SLICE)

    assert verdict.failures[0].message.startswith("accuracy is not a finite number on the slice label=a")


def test_bounds_per_slice_without_slices_are_noted() -> None:
    assert judge([measured()], None, PER_SLICE).notes == [
        "per_slice.accuracy does not apply: evaluation.slices names no slices"
    ]


@pytest.mark.parametrize("bounds", [{}, {"thresholds": {}}, {"thresholds": {"accuracy": {"min": None}}}])
def test_nothing_demanded_is_blessed_and_noted(bounds: dict[str, Any]) -> None:
    verdict = judge([measured()], None, bounds)

    assert verdict.blessed
    assert verdict.notes == ["nothing is demanded of the model: set evaluation.thresholds to have it judged"]


def test_the_verdict_lists_every_slice_with_its_baseline() -> None:
    verdict = judge(
        [measured("label=b", 2, accuracy=0.5), measured("label=a", 3, accuracy=math.nan), measured()],
        [measured("label=b", 2, accuracy=0.25), measured(accuracy=0.8, cross_entropy=0.6)],
        {},
    )

    assert verdict.slices == [
        {"slice": "label=a", "examples": 3, "metrics": {"accuracy": None}, "baseline": None},
        {"slice": "label=b", "examples": 2, "metrics": {"accuracy": 0.5}, "baseline": {"accuracy": 0.25}},
    ]
    assert verdict.metrics == {
        "accuracy": {"overall": 0.9, "baseline": 0.8},
        "cross_entropy": {"overall": 0.5, "baseline": 0.6},
    }
    json.dumps(verdict.to_dict(), allow_nan=False)


@pytest.mark.parametrize("group", ["thresholds", "per_slice"])
def test_a_bound_on_an_unknown_metric_is_the_users_mistake(group: str) -> None:
    with pytest.raises(InputError, match=rf"evaluation\.{group}\.acuracy: .* measured are accuracy, cross_entropy"):
        judge([measured()], None, {group: {"acuracy": {"min": 0.5}}})


def test_nothing_measured_is_the_users_mistake() -> None:
    with pytest.raises(InputError, match="is the test split empty"):
        judge([], None, {})
