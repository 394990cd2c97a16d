"""The gate's rules, bound by bound: broken and kept only where the predictions say so, in doubt otherwise."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from components.evaluation.calibration import CalibrationError
from components.evaluation.class_means import class_means
from components.evaluation.metrics import Estimates
from components.evaluation.predictions import Predictions, columns, score_bins
from components.evaluation.slice_result import class_metrics
from components.evaluation.verdict import judge
from core.artifacts.predictions import CANDIDATE, Classification, Scores
from core.artifacts.tflite_files import TFLiteFile
from core.artifacts.verdict import VERDICT, Range, Verdict
from core.errors import InputError
from core.settings.converter import from_json
from core.settings.evaluation import EvaluationSettings
from tests.components.evaluation.predicted import CLASSES, measure, predictions

SCORES = Scores([*CLASSES], {})


def judged(
    right: Sequence[bool],
    bounds: dict[str, Any],
    before: Sequence[bool] | None = None,
    slices: Sequence[str] | None = None,
    **wrong: float,
) -> Verdict:
    predicted = predictions(right, before, slices)
    measured = measure(predicted, baseline=before is not None, **wrong)
    return judge(measured, predicted, SCORES, settings(bounds))


def settings(bounds: dict[str, Any]) -> EvaluationSettings:
    """As ModelGate gets them."""
    return from_json(json.dumps({"slices": ["light"]} | bounds), EvaluationSettings)


def of(good: int, bad: int) -> list[bool]:
    return [True] * good + [False] * bad


def states(verdict: Verdict) -> list[tuple[str, str, str]]:
    return [(j.slice, j.setting.replace(".accuracy.", "."), j.state) for j in verdict.judged]


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

    assert states(verdict) == [("overall", f"thresholds.{next(iter(bound))}", state)]
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

    assert states(verdict) == [("overall", "thresholds.max_drop", state)]


def test_a_loss_drops_by_rising() -> None:
    bounds = {"thresholds": {"cross_entropy": {"max_drop": 0.1}}}

    assert not judged(of(60, 60), bounds, of(119, 1)).blessed
    assert judged(of(119, 1), bounds, of(60, 60)).blessed


def test_in_doubt_a_strict_gate_refuses() -> None:
    lenient = {"thresholds": {"accuracy": {"min": 0.9}}}

    passed, refused = judged(of(178, 22), lenient), judged(of(178, 22), {**lenient, "on_doubt": "refuse"})

    assert passed.blessed
    assert "cannot tell whether it is truly below 0.9; they would reveal a true shortfall" in passed.notes[0]
    assert not refused.blessed and refused.notes == []
    assert refused.failures[0].message.endswith("too few images to be sure, and evaluation.on_doubt is refuse")
    assert judged(of(195, 5), {**lenient, "on_doubt": "refuse"}).blessed


def test_a_doubt_says_that_it_is_corrected_for_the_other_bounds() -> None:
    """The interval that is shown stands for itself, and leaves the bound out."""
    now, before = [*of(0, 15), *of(160, 5)], [*of(15, 0), *of(0, 2), *of(158, 5)]
    drop = {"max_drop": 0.03}

    (alone,) = judged(now, {"thresholds": {"accuracy": drop}}, before).failures
    verdict = judged(now, {"thresholds": {"accuracy": {"min": 0.7, **drop}}, "per_slice": {"accuracy": drop}}, before)

    assert alone.kind == "max_drop" and verdict.blessed
    assert verdict.notes[0].startswith(
        "accuracy fell from 0.9611 (last blessed model) to 0.8889 (change 95% CI -0.124 to -0.031; 15 images lost and "
        "2 gained) on 180 test images: these images cannot tell whether that is more than the 0.03 allowed (corrected "
        "for 3 bounds); they would reveal a true drop of"
    )


def test_a_failure_says_what_where_by_how_much_and_shows_the_images() -> None:
    light = ["day"] * 150 + ["night"] * 50
    right = [*of(148, 2), *of(10, 40)]
    bounds = {"per_slice": {"accuracy": {"min": 0.7, "min_examples": 30}}}

    (failure,) = judged(right, bounds, slices=light).failures

    assert (failure.slice, failure.kind, failure.value, failure.bound) == ("light=night", "per_slice_min", 0.2, 0.7)
    assert failure.low < 0.2 < failure.high and failure.p < 1e-6
    assert failure.mistakes == 40 and len(failure.images) == 40 and failure.images[0] == "a/0160.jpg"
    assert failure.message.startswith(
        "accuracy is 0.2000 (95% CI 0.112 to 0.330) on 50 test images of light=night; the minimum is 0.7; p = "
    )
    assert failure.message.endswith(" (corrected for 2 bounds)")


def test_a_drop_shows_the_images_that_were_right_before() -> None:
    before = [*of(90, 10)]
    now = [*[False] * 20, *before[20:]]

    (failure,) = judged(now, {"thresholds": {"accuracy": {"max_drop": 0.05}}}, before).failures

    assert failure.bound == pytest.approx(0.85) and failure.mistakes == 30
    assert {path[-8:-4] for path in failure.images[:20]} == {f"{n:04d}" for n in range(20)}
    assert failure.message.startswith(
        "accuracy fell from 0.9000 (last blessed model) to 0.7000 (change 95% CI -0.289 to -0.133; "
        "20 images lost and 0 gained) on 100 test images; the most it may fall is 0.05; p = "
    )


def test_small_slices_are_not_judged_and_the_verdict_says_which() -> None:
    light = ["day"] * 150 + ["dusk"] * 29 + ["night"] * 30
    bounds = {"per_slice": {"accuracy": {"min": 0.7, "min_examples": 30}}}

    verdict = judged(of(150, 59), bounds, slices=light)

    assert states(verdict) == [("light=day", "per_slice.min", "kept"), ("light=night", "per_slice.min", "broken")]
    assert verdict.notes == [
        "accuracy was not checked on 1 of 3 slices, which have fewer than 30 test images: light=dusk (29)"
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
        "per_slice.accuracy.min: on 1 of 40 slices, the test images cannot tell whether 0.8 is met "
        "(corrected for 40 bounds): light=0: 0.6000 (95% CI 0.387 to 0.781)"
    ]


def test_drops_are_bounded_per_slice_too() -> None:
    light = ["day"] * 100 + ["night"] * 100
    now = [*of(90, 10), *of(60, 40)]
    before = [*of(90, 10), *of(90, 10)]
    bounds = {"per_slice": {"accuracy": {"max_drop": 0.05, "min_examples": 30}}}

    verdict = judged(now, bounds, before, light)

    assert [(f.slice, f.kind) for f in verdict.failures] == [("light=night", "per_slice_max_drop")]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_no_number_keeps_no_bound(value: float, tmp_path: Path) -> None:
    verdict = judged(of(50, 0), {"thresholds": {"cross_entropy": {"max": 9e9}}}, cross_entropy=value)

    assert not verdict.blessed
    assert verdict.failures[0].message.startswith("cross_entropy is not a finite number on 50 test images; ")
    VERDICT.write(tmp_path, verdict)
    assert VERDICT.read(tmp_path) == verdict


def test_without_a_baseline_a_drop_is_not_judged_and_the_verdict_says_why() -> None:
    predicted = predictions(of(1, 99))
    bounds = settings({"thresholds": {"accuracy": {"max_drop": 0.01}}, "on_doubt": "refuse"})

    verdict = judge(measure(predicted), predicted, SCORES, bounds, "the last blessed model no longer loads: bad")

    assert verdict.blessed and verdict.not_compared == "the last blessed model no longer loads: bad"
    assert verdict.notes == ["max_drop of accuracy was not checked: the last blessed model no longer loads: bad"]


def test_bounds_per_slice_without_slices_are_noted() -> None:
    predicted = predictions(of(50, 0))
    bounds = settings({"slices": [], "per_slice": {"accuracy": {"min": 0.7}}})

    assert judge(measure(predicted)[:1], predicted, SCORES, bounds).notes == [
        "per_slice.accuracy was not checked: evaluation.slices is empty"
    ]


@pytest.mark.parametrize("bounds", [{}, {"thresholds": {}}, {"thresholds": {"accuracy": {"min": None}}}])
def test_nothing_demanded_is_blessed_and_noted(bounds: dict[str, Any]) -> None:
    verdict = judged(of(1, 1), bounds)

    assert verdict.blessed
    (note,) = verdict.notes
    assert note.startswith("there are no bounds, so every model passes, as this one with an accuracy of ")


def test_the_verdict_holds_every_slice_with_intervals_baseline_and_change(tmp_path: Path) -> None:
    light = ["day"] * 30 + ["night"] * 10
    verdict = judged(of(30, 10), {}, of(35, 5), light)

    accuracy, change = verdict.overall.metrics["accuracy"], verdict.overall.change["accuracy"]
    assert (accuracy.value, verdict.overall.baseline["accuracy"].value) == (0.75, 0.875)
    assert accuracy.low < 0.75 < accuracy.high
    assert change.value == -0.125 and change.high < 0
    night = {s.slice: s for s in verdict.slices}["light=night"]
    assert (night.examples, verdict.overall.examples) == (10, 40)
    assert night.metrics["accuracy"] == Range(0.0, 0.0, pytest.approx(0.2775, abs=1e-4))
    assert night.baseline["accuracy"].value == 0.5 and night.change["accuracy"].value == -0.5
    assert night.metrics["macro_auc"] == Range(None, None, None)
    VERDICT.write(tmp_path, verdict)
    assert VERDICT.read(tmp_path) == verdict


def test_slices_that_are_judged_have_their_classes_and_confusions() -> None:
    predicted = predictions(of(30, 15), slices=["day"] * 25 + ["night"] * 20)
    bounds = settings({"per_slice": {"accuracy": {"min": 0.7, "min_examples": 21}}})
    equal = {CANDIDATE: np.zeros((45, 3), np.int16)}

    verdict = judge(measure(predicted), predicted, Scores([*CLASSES, "c"], equal), bounds)

    assert [c.class_name for c in verdict.overall.classes] == ["a", "b", "c"]
    day, night = verdict.slices
    assert [(c.actual, c.predicted, c.examples) for c in day.confusions] == [("a", "a", 13), ("b", "b", 12)]
    assert [(c.class_name, c.examples) for c in day.classes] == [
        ("a", 13),
        ("b", 12),
    ]  # no image is of c, or taken for c
    assert day.classes[0].recall == Range(1.0, pytest.approx(0.772, abs=1e-3), 1.0)
    assert day.classes[0].auc.value == 0.5
    assert night.classes == night.confusions == []  # too small to be judged


def few(*pairs: tuple[str, str], probability: float = 0.6) -> Predictions:
    """Predictions for images of (true, predicted) classes; "" where the model could not read the image."""
    found = [Classification(name, probability if name else 0.0, 0.0, 3) for _, name in pairs]
    scores = score_bins(np.array([[probability * (name == c) for c in CLASSES] for _, name in pairs]))
    return columns([label for label, _ in pairs], found, CLASSES, scores)


def test_a_slice_of_one_class_has_no_area() -> None:
    """Where the others are of a class that the model does not know, there is none either."""
    predicted = few(*[("a", "a")] * 20, *[("a", "b")] * 5, *[("x", "b")] * 5)

    (first, _) = class_metrics(predicted, CLASSES, 0.95, (0, 1))

    assert first.auc == Range(None, None, None) and (first.examples, first.recall.value) == (25, 0.8)
    assert "macro_auc" not in class_means(predicted) and class_means(predicted)["macro_recall"].value == 0.8


def test_images_of_classes_that_the_model_does_not_know_are_mistakes_but_of_no_class() -> None:
    known, unknown = [("a", "a"), ("a", "b"), ("b", "b"), ("b", "b")], [("x", "a"), ("x", "b"), ("x", "")]

    means, all_means = class_means(few(*known)), class_means(few(*known, *unknown))

    for name in ("precision", "recall", "f1"):
        for kind in ("macro", "weighted"):
            assert all_means[f"{kind}_{name}"].value == means[f"{kind}_{name}"].value
    of_known, of_all = (class_metrics(few(*pairs), CLASSES, 0.95, (0, 1)) for pairs in (known, [*known, *unknown]))
    assert [(c.examples, c.precision, c.recall, c.f1) for c in of_all] == [
        (c.examples, c.precision, c.recall, c.f1) for c in of_known
    ]
    areas = [c.auc.value for c in of_all]  # to areas they are others, one of whose scores beats that of an image
    assert all_means["macro_auc"].value == pytest.approx(np.mean(areas))
    assert areas[0] == pytest.approx(roc_auc_score([1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0]))
    assert Estimates(few(*known, *unknown)).of("accuracy")[0].value == 3 / 7
    assert class_means(few(*unknown)) == {}


def test_an_image_without_a_prediction_is_a_mistake_as_it_is_to_tfma() -> None:
    """TFMA takes the materialized predictions' class, the one after the image's own."""
    predicted = few(("a", "a"), ("a", ""), ("b", "b"), ("b", ""))

    first, second = class_metrics(predicted, CLASSES, 0.95, (0, 1))

    assert (first.precision.value, first.recall.value, second.precision.value, second.recall.value) == (0.5,) * 4
    assert class_means(predicted)["macro_f1"].value == 0.5
    assert CalibrationError(predicted).value == pytest.approx((2 * 0.4 + 2 * 0) / 4)


@pytest.mark.parametrize("group", ["thresholds", "per_slice"])
def test_a_bound_on_a_metric_that_was_not_measured_is_the_users_mistake(group: str) -> None:
    with pytest.raises(
        InputError,
        match=rf"evaluation\.{group}\.macro_auc: .* allow accuracy, accuracy_at_coverage, coverage, cross_entropy",
    ):
        judged(of(1, 1), {group: {"macro_auc": {"min": 0.5}}})


def test_nothing_measured_is_the_users_mistake() -> None:
    with pytest.raises(InputError, match="is the test split empty"):
        judge([], [], SCORES, EvaluationSettings())


INT8 = TFLiteFile("tflite-int8", "int8.tflite", 24_000_000, 12.5, 100)


def converted(candidate: Sequence[bool], export: Sequence[bool], bounds: dict[str, Any]) -> Verdict:
    """Judges a candidate that was converted, by which images each gets right."""
    exported = predictions(export)
    predicted = [
        dataclasses.replace(p, exports={"tflite-int8": Classification(*one)})
        for p, e in zip(predictions(candidate), exported, strict=True)
        for one in [(e.predicted, e.probability, e.label_probability, e.rank)]
    ]
    return judge(measure(predicted), predicted, SCORES, settings(bounds), exports=[INT8])


@pytest.mark.parametrize(
    ("lost", "bounds", "state"),
    [
        (40, {}, "broken"),
        (0, {}, "kept"),
        (4, {}, "doubt"),
        (40, {"export": {"tflite-int8": {"accuracy": {"max_drop": 0.3}}}}, "kept"),
        (40, {"export": {"tflite-int8": {"accuracy": {"min": 0.95}}}}, "broken"),
    ],
)
def test_what_it_was_converted_to_is_judged_against_the_candidate(lost: int, bounds: dict, state: str) -> None:
    verdict = converted(of(190, 10), of(190 - lost, 10 + lost), bounds)

    kind = "min" if bounds and "min" in bounds["export"]["tflite-int8"]["accuracy"] else "max_drop"
    assert [(j.slice, j.setting, j.state) for j in verdict.judged] == [
        ("tflite-int8", f"export.tflite-int8.accuracy.{kind}", state)
    ]
    assert verdict.blessed == (state != "broken")
    (found,) = verdict.exports
    assert found.export == INT8 and found.metrics["accuracy"].value == (190 - lost) / 200
    assert found.change["accuracy"].value == pytest.approx(-lost / 200)  # type: ignore[union-attr]


def test_a_converted_model_that_breaks_its_bound_says_how_to_push_all_the_same() -> None:
    (failure,) = converted(of(190, 10), of(150, 50), {}).failures

    assert failure.message.startswith("tflite-int8: accuracy fell from 0.9500 (SavedModel) to 0.7500 (change 95% CI")
    assert failure.message.endswith(
        ". Raise evaluation.export.tflite-int8.accuracy.max_drop, or leave tflite-int8 out of export to push without it"
    )
    assert (failure.setting, failure.kind) == ("export.tflite-int8.accuracy.max_drop", "export_max_drop")
    assert (failure.mistakes, len(failure.images)) == (50, 50)
    assert {int(path[2:6]) for path in failure.images[:40]} == set(range(150, 190))  # the candidate got these right


def test_bounds_of_an_export_are_no_bounds_of_the_candidate() -> None:
    verdict = converted(of(190, 10), of(190, 10), {})
    assert any(note.startswith("there are no bounds, so every model passes") for note in verdict.notes)
    assert not any("max_drop" in note for note in verdict.notes)
    assert converted(of(190, 10), of(100, 100), {"export": {"tflite-int8": {}}}).blessed
