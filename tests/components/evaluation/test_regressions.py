"""Past failures that must stay right: what is wrong among them, and when that is too much."""

import pytest

from components.evaluation.regressions import judge_regressions
from core.artifacts.ingest_record import Reject
from core.artifacts.predictions import Classification, Prediction

CLASSES = ["cat", "owl"]


def prediction(path: str, label: str, predicted: str, before: str | None = None) -> Prediction:
    baseline = Classification(before, 0.8, 0.8, 1) if before is not None else None
    return Prediction(predicted, 0.9, 0.1, 2, path, "ab", label, {}, baseline)


RIGHT = prediction("cat/1.png", "cat", "cat", "owl")
STILL = prediction("cat/2.png", "cat", "owl", "owl")
BACK = prediction("owl/3.png", "owl", "cat", "owl")


@pytest.mark.parametrize(("allowed", "broken"), [(0, True), (1, True), (2, False)])
def test_more_may_not_be_wrong_than_is_allowed(allowed: int, broken: bool) -> None:
    found = judge_regressions("/past", [RIGHT, STILL, BACK], [], CLASSES, allowed)
    assert (found.images, [one.path for one in found.wrong]) == (3, ["owl/3.png", "cat/2.png"])
    assert [one.new for one in found.wrong] == [True, False]
    assert (found.message is not None) is broken
    if found.message:
        assert found.message == (
            "evaluation.regressions: 2 of 3 images in /past are not right, 1 of which the last blessed model has right"
            f"; {allowed or 'none'} may be wrong: owl/3.png (predicted as cat), cat/2.png (predicted as owl)"
        )


def test_what_cannot_be_right_is_wrong_and_says_why() -> None:
    of_no_class, not_read = prediction("fox/4.png", "fox", "cat"), prediction("cat/5.png", "cat", "")
    unused = [Reject("cat/6.png", "cat", "decode", "it is cut short")]
    found = judge_regressions("/past", [of_no_class, not_read], unused, CLASSES, 0)
    assert {one.path: one.reason for one in found.wrong} == {
        "cat/5.png": "the model cannot read it",
        "cat/6.png": "it is cut short",
        "fox/4.png": "the model has no class fox",
    }
    assert found.images == 3 and found.message and not any(one.new for one in found.wrong)


def test_a_set_without_images_does_not_pass() -> None:
    assert judge_regressions("/past", [], [], CLASSES, 5).message == "evaluation.regressions: /past holds no images"
