"""What is said of production: with data that are known, and how often it errs."""

import dataclasses

import numpy as np
import pytest

from components.evaluation.reference import reference
from components.monitoring import label_shift
from components.monitoring.comparison import LEAST, Production, compare, measured_change
from core.artifacts.monitoring import MonitoringConfig, Observation, Reference
from core.artifacts.predictions import Prediction
from core.settings.monitoring import MonitoringSettings

CLASSES = ("cat", "owl", "fox")
SHARES = (0.5, 0.3, 0.2)
VALUES = ("dark", "medium", "bright")


def world(n: int, seed: int, shares=SHARES, dark: float = 1 / 3, noise: float = 1.0):
    """Labels, probabilities float [n, 3], and brightness, of images drawn at random.

    The probabilities are calibrated where the shares are those of the test split; `noise` blurs the images, and makes
    them less sure.
    """
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, n, p=shares)
    seen = np.eye(3)[labels] * 2 + generator.normal(scale=noise, size=(n, 3))
    logits = seen * 2 / noise**2 + np.log(SHARES)
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    brightness = generator.choice(VALUES, n, p=(dark, (1 - dark) / 2, (1 - dark) / 2))
    return labels, probabilities, brightness


def on_test(n: int, seed: int = 0, **bounds: float | None) -> Reference:
    labels, probabilities, brightness = world(n, seed)
    predictions = [
        Prediction(
            CLASSES[row.argmax()],
            float(row.max()),
            float(row[label]),
            1,
            f"{i}",
            "",
            CLASSES[label],
            {"brightness": value},
        )
        for i, (label, row, value) in enumerate(zip(labels, probabilities, brightness, strict=True))
    ]
    settings = MonitoringSettings(**bounds)  # type: ignore[arg-type]
    return reference(predictions, CLASSES, MonitoringConfig({}, ("brightness",), settings))


def produced(n: int, seed: int, novelty: float | None = None, unreadable: int = 0, **how) -> Production:
    production = Production(CLASSES)
    _, probabilities, brightness = world(n, seed, **how)
    for row, value in zip(probabilities, brightness, strict=True):
        production.add(Observation("", None, tuple(row.tolist()), "", novelty, {"brightness": str(value)}))
    for _ in range(unreadable):
        production.add(Observation("", None, (), "cut short", None, {}))
    return production


def states(found) -> dict[str, str]:
    return {one.name: one.state for one in found.findings}


@pytest.fixture
def no_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is estimated of the classes' shares, which takes the most time."""
    monkeypatch.setattr(label_shift, "LEAST_PER_CLASS", 10**9)


@pytest.mark.usefixtures("no_shares")
def test_production_like_the_test_split_breaks_no_bound_even_if_none_is_left() -> None:
    """With bounds of 0 every change is beyond them; chance alone must look so in no more than one of twenty."""
    nothing = dict.fromkeys(("image_drift", "class_drift", "accuracy_drop"), 0.0)
    alarms = sum(
        any(
            one.state == "broken"
            for one in compare(on_test(300, 2 * seed, **nothing), produced(300, 2 * seed + 1)).findings
        )
        for seed in range(100)
    )
    assert alarms <= 9  # 5, and two standard errors


@pytest.mark.parametrize(("n", "dark", "least"), [(100, 0.733, 0.45), (500, 0.633, 0.55)])
def test_what_moved_is_found_as_often_as_the_docs_say(n: int, dark: float, least: float) -> None:
    draws = 40
    found = sum(
        states(compare(on_test(n, 2 * seed), produced(n, 2 * seed + 1, dark=dark)))["brightness=dark"] == "broken"
        for seed in range(draws)
    )
    assert found / draws >= least


@pytest.mark.usefixtures("no_shares")
def test_the_expected_accuracy_has_an_interval_that_holds() -> None:
    labels, probabilities, _ = world(20_000, 9999, noise=1.5)
    true = (probabilities.argmax(axis=1) == labels).mean()
    found = [compare(on_test(300, 2 * seed), produced(300, 2 * seed + 1, noise=1.5)) for seed in range(40)]
    ranges = [one.expected_accuracy for one in found]
    assert sum(one.low <= true <= one.high for one in ranges) >= 37


def test_what_moved_is_beyond_its_bound_and_nothing_else() -> None:
    found = compare(on_test(500), produced(500, 1, dark=0.9, unreadable=100))
    assert {one.kind for one in found.findings if one.state == "broken"} == {"image_drift", "unreadable"}
    assert states(found)["brightness=dark"] == "broken" and states(found)["predicted as cat"] == "kept"
    (dark,) = (one for one in found.findings if one.name == "brightness=dark")
    assert dark.change.low < 0.9 - 1 / 3 < dark.change.high and found.findings[0].state == "broken"
    fewer_owls = compare(on_test(500), produced(500, 1, shares=(0.9, 0.05, 0.05)))
    assert states(fewer_owls)["predicted as cat"] == "broken"


def test_blurred_images_are_expected_to_be_classified_worse_as_they_are() -> None:
    test, production = on_test(2000), produced(2000, 1, noise=1.8)
    labels, probabilities, _ = world(2000, 1, noise=1.8)
    found = compare(test, production)
    true = (probabilities.argmax(axis=1) == labels).mean()
    assert true < test.overall.right / test.overall.images - 0.1
    assert found.expected_accuracy.low < true < found.expected_accuracy.high
    assert states(found)["mean confidence"] == "broken"


def test_the_classes_shares_are_estimated_beyond_what_is_predicted() -> None:
    shares = (0.1, 0.2, 0.7)
    found = compare(on_test(1000), produced(1000, 1, shares=shares))
    for one in found.classes:
        true = shares[CLASSES.index(one.class_name)]
        assert one.estimated.low < true < one.estimated.high, one
        assert abs(one.estimated.value - true) < abs(one.predicted - true) + 0.02
    assert found.classes[0].class_name == "fox"  # what moved most comes first


def test_of_too_few_images_for_the_classes_no_shares_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_shift, "LEAST_PER_CLASS", 100)
    found = compare(on_test(500), produced(299, 1))
    assert [one.estimated.value for one in found.classes] == [None] * 3 and found.expected_accuracy.value is not None
    assert "the classes' shares are not estimated: 300 images are the least for 3 classes" in " ".join(found.notes)


@pytest.mark.parametrize(("novelty", "state"), [(0.5, "kept"), (0.99, "broken")])
def test_novelty_is_held_to_its_bound_where_the_model_says_it(novelty: float, state: str) -> None:
    found = compare(on_test(100), produced(200, 1, novelty=novelty))
    assert states(found)["more novel than 95% of the eval images"] == state
    assert any("how novel" in note for note in compare(on_test(100), produced(200, 1)).notes)


@pytest.mark.parametrize(("test", "now"), [(LEAST - 1, 500), (500, LEAST - 1)])
def test_of_too_few_images_nothing_is_said(test: int, now: int) -> None:
    found = compare(on_test(test), produced(now, 1))
    assert not found.findings and found.expected_accuracy.value is None
    few = "the test split" if test < LEAST else "production"
    assert found.notes == [f"{few} has 29 images, and 30 are the least that anything is said of"]


def test_where_the_model_reads_too_few_images_no_accuracy_is_estimated() -> None:
    found = compare(on_test(500), produced(5, 1, unreadable=200))
    assert states(found)["images that the model cannot read"] == "broken"
    assert found.expected_accuracy.value is None and states(found)["mean confidence"] == "too_few"


def test_a_bound_that_is_not_set_is_not_broken() -> None:
    found = compare(on_test(500, image_drift=None), produced(500, 1, dark=0.9))
    assert states(found)["brightness=dark"] == "unbounded"


def test_measured_accuracy_is_held_to_the_same_bound_as_the_expected_one() -> None:
    test = on_test(500)
    accuracy = test.overall.right / test.overall.images
    assert measured_change(round(accuracy * 500), 500, test).state == "kept"
    assert measured_change(round((accuracy - 0.3) * 500), 500, test).state == "broken"
    assert (
        measured_change(20, 30, dataclasses.replace(test, bounds=MonitoringSettings(accuracy_drop=None))).state
        == "unbounded"
    )


def test_counts_and_the_sample_are_bounded_however_many_images_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_shift, "CELLS", 150)
    production = Production(CLASSES)
    for row in [(1.0, 0.0, 0.0)] * 500 + [(0.0, 1.0, 0.0)] * 500:
        production.add(Observation("", None, row, "", None, {}))
    assert production.readable == 1000 and production.probabilities.shape == (50, 3)
    assert 10 <= production.probabilities[:, 1].sum() <= 40  # drawn from all of them
