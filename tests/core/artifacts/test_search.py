"""From TunerConfig to keras-tuner's values, and back into the settings."""

import json
from pathlib import Path

import pytest

from core.artifacts import search
from core.settings import load, split_overrides
from core.settings.training import LearningRateConfig
from core.settings.tuner import TunerConfig
from tests.trainer.conftest import settings
from trainer.tuning import choices


def test_every_list_becomes_a_choice() -> None:
    found = choices(TunerConfig(hidden_units=((), (512, 128)), dropout=(0.5, 0.0), l2=(0.1,), learning_rate=(1e-3,)))
    assert {p.name: p.values for p in found.space} == {
        "hidden_units": ["", "512-128"],
        "dropout": [0.0, 0.5],
        "l2": [0.1],
        "learning_rate": [1e-3],
    }


def test_the_block_is_searched_only_where_blocks_are_named() -> None:
    assert "output" not in {p.name for p in choices(TunerConfig()).space}
    assert "output" in {p.name for p in choices(TunerConfig(output=("mixed8", "mixed10"))).space}


def test_choices_go_back_into_the_settings_they_came_from() -> None:
    before = settings(learning_rate=LearningRateConfig((1e-2, 1e-3), (10,)))
    values = {"hidden_units": "512-128", "dropout": 0.5, "l2": 0.1, "learning_rate": 1e-3, "output": "mixed8"}
    after = search.apply(values, before)
    assert after.head.hidden_units == (512, 128)
    assert (after.head.dropout, after.head.l2, after.backbone.output) == (0.5, 0.1, "mixed8")
    assert after.training.learning_rate.values == pytest.approx((1e-3, 1e-4))
    assert after.training.learning_rate.boundaries == (10,)
    assert after.training.batch_size == before.training.batch_size


def test_no_hidden_layer_is_a_choice_too() -> None:
    assert search.apply({"hidden_units": ""}, settings()).head.hidden_units == ()
    assert search.as_settings({"hidden_units": "", "l2": 0.1}) == {"head.hidden_units": [], "head.l2": 0.1}


@pytest.mark.parametrize(
    "rate",
    [
        LearningRateConfig((1e-2,)),
        LearningRateConfig((1e-2, 1e-3), (10,)),
        LearningRateConfig((1e-2,), schedule="cosine", end=1e-4, warmup_steps=5),
        LearningRateConfig((1e-2,), schedule="exponential", decay_rate=0.5),
    ],
)
def test_what_was_chosen_gives_the_same_training_when_it_is_given_as_settings(
    rate: LearningRateConfig, tmp_path: Path
) -> None:
    values = {"hidden_units": "64", "dropout": 0.5, "l2": 0.1, "learning_rate": 3e-3}
    trained = search.apply(values, settings(learning_rate=rate))
    given = [f"{path}={json.dumps(value)}" for path, value in search.chosen(values, trained).items()]

    (tmp_path / "birds.yaml").write_text("name: birds\ndata: {images: photos}\n")
    loaded = load(tmp_path / "birds.yaml", split_overrides([" ".join(given)]))

    assert loaded.training.learning_rate == trained.training.learning_rate
    assert loaded.head.hidden_units == (64,) and (loaded.head.dropout, loaded.head.l2) == (0.5, 0.1)
