"""Slices by features of many values: who measures them, which, and what that costs."""

import json
import time
from typing import Any

import numpy as np
import pytest

from components.evaluation import slicing
from components.evaluation.metrics import Estimates
from components.evaluation.predictions import columns, score_bins
from components.evaluation.slice_result import Measured
from components.evaluation.verdict import judge
from core.artifacts.predictions import CANDIDATE, Prediction, Scores
from core.artifacts.verdict import Verdict
from core.metrics import FRACTIONS, LOSS
from core.settings.converter import from_json
from core.settings.evaluation import EvaluationSettings

CLASSES = [f"class {number:04d}" for number in range(1000)]
ACCURACY = {"accuracy": {"min": 0.5, "min_examples": 3}}


def predict(images: int, classes: int = 2, patients: int = 1) -> tuple[list[Prediction], Scores]:
    """Of classes in turn, every fourth wrong; of the first patient there are most images, of most patients one."""
    found, rows = [], np.full((images, classes), 0.1 / classes)
    for number in range(images):
        label, predicted = (f"class {(number + wrong) % classes:04d}" for wrong in (0, number % 4 == 0))
        rows[number, int(predicted[6:])] = 0.9
        patient = f"patient {max(0, number - images + patients):04d}"
        found.append(
            Prediction(predicted, 0.9, 0.05, 2, f"{number:05d}", "ab", label, {"patient": patient, "camera": "phone"})
        )
    return found, Scores(CLASSES[:classes], {CANDIDATE: score_bins(rows)})


def verdict(predictions: tuple[list[Prediction], Scores], **settings: Any) -> Verdict:
    """Where TFMA measured the entire split alone."""
    found, scores = predictions
    estimates = Estimates(columns([p.label for p in found], found, scores.classes))
    metrics = {name: estimates.of(name)[0].value for name in (*FRACTIONS, LOSS)}
    read = from_json(json.dumps(settings), EvaluationSettings)
    return judge([Measured((), len(found), {CANDIDATE: metrics})], found, scores, read)


def test_tfma_gets_crosses_of_few_values() -> None:
    examples = [{"label": b"%d" % (n % 3), "slice/patient": b"%d" % (n % 101), "image/path": b""} for n in range(300)]

    assert slicing.few_valued(
        [[], ["label"], ["slice/patient"], ["label", "slice/patient"], ["slice/x"]], examples
    ) == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert slicing.few_valued([["slice/patient"]], [e for e in examples if e["slice/patient"] != b"100"]) == [True]


def test_slices_that_tfma_was_spared_are_measured_by_the_predictions() -> None:
    found = verdict(predict(40), slices=["camera*label", "camera"])

    assert [(s.slice, s.examples, s.metrics["accuracy"].value) for s in found.slices] == [
        ("camera=phone", 40, 0.75),
        ("label=class 0000, camera=phone", 20, 0.5),
        ("label=class 0001, camera=phone", 20, 1.0),
    ]
    assert all(s.metrics["cross_entropy"].low is not None for s in found.slices) and found.notes[0].startswith(
        "there are no"
    )


def test_of_many_slices_the_largest_are_measured_and_the_note_says_so() -> None:
    found = verdict(predict(2000, patients=1500), slices=["patient"])

    assert len(found.slices) == slicing.LARGEST and found.slices[0].slice == "patient=patient 0000"
    assert found.notes[0] == (
        "evaluation.slices: patient makes 1,500 slices, of which the 1,000 with the most test images were measured; "
        "bounds in evaluation.per_slice are judged on every one that has min_examples test images"
    )


def test_a_bound_holds_on_every_slice_however_many() -> None:
    bound = {"accuracy": {"min": 0.5, "min_examples": 1}}

    found = verdict(predict(2000, patients=1500), slices=["patient"], per_slice=bound)

    assert len(found.slices) == len(found.judged) == 1500 and not any(
        "most test images" in note for note in found.notes
    )


def test_slices_that_are_too_small_are_counted_and_some_are_named() -> None:
    found = verdict(predict(2000, patients=1500), slices=["patient"], per_slice=ACCURACY)

    (note,) = (note for note in found.notes if "fewer than" in note)
    assert note.startswith(
        "accuracy was not checked on 999 of 1000 slices, which have fewer than 3 test images: patient="
    )
    assert note.endswith(" (1) and 989 more")


@pytest.mark.parametrize("each", [1, 3])
def test_a_thousand_classes_with_a_bound_take_seconds(each: int) -> None:
    """They took five minutes when every slice had a matrix of a million cells."""
    predictions = predict(1000 * each, classes=1000)
    bound = {"accuracy": {"min": 0.01, "min_examples": 1}}
    began = time.process_time()

    found = verdict(predictions, slices=["label"], per_slice=bound)

    assert time.process_time() - began < 30
    assert len(found.judged) == 1000 and len(found.overall.classes) == 1000
    assert {s.slice: len(s.classes) for s in found.slices}["label=class 0000"] == 2
    assert sum(c.examples for c in found.overall.confusions) == 1000 * each
