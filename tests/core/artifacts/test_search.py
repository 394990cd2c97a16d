"""From TunerConfig to keras-tuner's values, and back into the settings."""

import pytest

from core.artifacts import search
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
