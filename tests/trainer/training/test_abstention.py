"""Which labels a model withholds: as few as the wanted precision allows, and never on the word of a few images."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.serving.served_model import ServedModel
from core import signatures
from core.artifacts.training_summary import TrainingSummary
from core.settings.abstain import AbstainConfig
from tests.trainer import training_data
from tests.trainer.conftest import settings
from trainer.training import abstention


def answers(count: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a calibrated model: probabilities, whether each is right, and novelty."""
    random = np.random.default_rng(seed)
    probability = random.uniform(0.3, 1, count)
    return probability, random.uniform(size=count) < probability, random.uniform(size=count)


@pytest.mark.parametrize(("images", "mean", "low"), [(30, 0.947, 0.85), (60, 0.949, 0.89), (200, 0.950, 0.92)])
def test_the_precision_that_is_wanted_is_the_mean_of_what_few_images_choose(
    images: int, mean: float, low: float
) -> None:
    """The numbers of docs/unknown.md: calibrated probabilities that are right in 85%."""
    random = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        probability = 1 - 0.9 * random.beta(0.5, 2.5, count)
        return probability, random.random(count) < probability

    everything, right = draw(1_000_000)
    order = np.argsort(-everything)
    precisions = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    found = []
    for _ in range(1000):
        least = abstention.choose(AbstainConfig(precision=0.95, novelty=None), *draw(images), np.zeros(images))
        if least.not_shown:
            continue
        found.append(precisions[np.searchsorted(-everything[order], -least.probability, side="right") - 1])
    assert np.mean(found) == pytest.approx(mean, abs=0.004)
    assert np.quantile(found, 0.05) == pytest.approx(low, abs=0.011)


@pytest.mark.parametrize("precision", [0.7, 0.8, 0.9, 0.95])
def test_the_labels_that_are_given_have_the_precision_and_new_ones_too(precision: float) -> None:
    chosen = abstention.choose(AbstainConfig(precision=precision), *answers())
    probability, right, novelty = answers(20_000, seed=1)
    given = (probability >= chosen.probability) & (novelty <= chosen.novelty)

    assert chosen.right / chosen.labeled >= precision
    assert right[given].mean() == pytest.approx(precision, abs=0.025)
    assert chosen.novelty == 0.99


def test_no_lower_threshold_would_do() -> None:
    probability, right, novelty = answers()
    chosen = abstention.choose(AbstainConfig(precision=0.9, novelty=None), probability, right, novelty)
    below = sorted(probability[probability < chosen.probability], reverse=True)

    assert all(right[probability >= threshold].mean() < 0.9 for threshold in below)
    assert chosen.novelty == 1.0


def test_a_model_that_is_good_enough_gives_every_label() -> None:
    chosen = abstention.choose(AbstainConfig(precision=0.5, novelty=None), *answers())

    assert chosen.probability == 0.0 and chosen.labeled == chosen.images == 2000


def test_given_thresholds_are_taken_as_they_are() -> None:
    probability, right, novelty = answers()
    chosen = abstention.choose(AbstainConfig(probability=0.6, novelty=0.8), probability, right, novelty)

    given = (probability >= 0.6) & (novelty <= 0.8)
    assert (chosen.probability, chosen.novelty) == (0.6, 0.8)
    assert (chosen.labeled, chosen.right) == (given.sum(), right[given].sum())


def test_equal_probabilities_are_kept_or_withheld_together() -> None:
    probability = np.repeat([0.9, 0.6], 50)
    right = np.arange(100) < 94

    chosen = abstention.choose(AbstainConfig(precision=0.97, novelty=None), probability, right, np.zeros(100))

    assert chosen.labeled == 50 and chosen.probability == pytest.approx(0.75)


@pytest.mark.parametrize(("precision", "least"), [(0.5, 0), (0.8, 2), (0.9, 4), (0.95, 9), (0.99, 49)])
def test_so_many_images_that_are_all_right_show_the_precision_and_one_fewer_does_not(
    precision: float, least: int
) -> None:
    config = AbstainConfig(precision=precision, novelty=None)

    assert config.least_images == least
    for images in range(max(least - 1, 1), least + 2):
        all_right = np.ones(images, bool)
        chosen = abstention.choose(config, np.linspace(0.5, 1, images), all_right, np.zeros(images))
        assert (chosen.not_shown is None) == (images >= least)


def test_a_precision_that_no_threshold_shows_is_said_with_the_best_there_is() -> None:
    probability, _, novelty = answers(200)
    right = np.arange(200) % 2 == 0
    right[np.argmax(probability)] = True

    chosen = abstention.choose(AbstainConfig(precision=0.9, novelty=None), probability, right, novelty)

    given = probability >= chosen.probability
    assert (chosen.labeled, chosen.right) == (given.sum(), right[given].sum()) and chosen.labeled > 0
    best = f"the best gives {chosen.labeled} of them a label, {chosen.right} the right one"
    assert chosen.not_shown is not None and best in chosen.not_shown and "abstain.probability" in chosen.not_shown


def test_where_every_image_is_too_novel_none_gets_a_label() -> None:
    probability, right, novelty = answers(200)

    chosen = abstention.choose(AbstainConfig(precision=0.9, novelty=0.5), probability, right, novelty + 1)

    assert chosen.labeled == 0 and chosen.probability == 1.0
    assert chosen.not_shown is not None and "gives 0 of them a label" in chosen.not_shown


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"precision": 0.9, "probability": 0.5}, "only one of precision and probability"),
        ({"novelty": None}, "nothing would ever be withheld"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(given: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AbstainConfig(**given)


def test_the_exported_model_withholds_what_the_settings_say_and_says_why(
    train: Callable[..., TrainingSummary], tmp_path: Path
) -> None:
    config = dataclasses.replace(settings(), abstain=AbstainConfig(probability=0.99, novelty=0.9))
    noise = training_data.Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    noise.save(tmp_path / "noise.png")
    images = [training_data.image(name, 500 + n) for n in range(12) for name in ("red", "green", "blue")]
    images += [(tmp_path / "noise.png").read_bytes(), b"no image"]

    summary = train(config, "pooled", tmp_path / "model")

    with ServedModel(str(tmp_path / "model" / "Format-Serving")) as model:
        answer = model.request(signatures.IMAGES, images)
        examples = [training_data.raw_example(image) for image in images]
        by_example = model.request(signatures.EXAMPLES, examples)
    assert summary.abstention is not None
    assert (summary.abstention.probability, summary.abstention.novelty) == (0.99, 0.9)
    assert summary.abstention.images == 24 and summary.novelty.train == 72
    reasons = [reason.decode() for reason in answer["reason"]]
    for label, probability, novelty, reason in zip(
        answer["label"], answer["probability"], answer["novelty"], reasons[:-1], strict=False
    ):
        assert bool(label) == (not reason) == (probability >= 0.99 and novelty <= 0.9)
        number = novelty if novelty > 0.9 else probability
        told = f"novelty {number:.4f} is above 0.9" if novelty > 0.9 else f"probability {number:.4f} is below 0.99"
        assert reason.startswith(told) or not reason
    assert reasons[-2].startswith("novelty") and answer["novelty"][-2] > 0.95
    assert {reason[:4] for reason in reasons} == {"", "nove", "prob"} and answer["label"].astype(bool).any()
    assert answer["probabilities"][:-1].sum(axis=1) == pytest.approx(1, abs=1e-5)  # they stay
    assert by_example["reason"].tolist() == answer["reason"].tolist()
    assert json.dumps(reasons).isascii()
