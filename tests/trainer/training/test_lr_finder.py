from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from tests.trainer import training_data
from tests.trainer.conftest import settings
from trainer.training import lr_finder


def test_sweep_suggests_a_rate_between_too_low_and_too_high(
    features_at: Callable[[str], Path], transform_directory: Path, backbone_directory: Path, tmp_path: Path
) -> None:
    args = training_data.fn_args(
        settings(), features_at("pooled"), transform_directory, backbone_directory, tmp_path / "out"
    )
    found = lr_finder.sweep(settings(optimizer="sgd"), args, 1e-6, 1e3, 100)
    assert found.rates[0] == pytest.approx(1e-6)
    assert found.rates[1] / found.rates[0] == pytest.approx(1e9 ** (1 / 99))
    assert len(found.losses) == len(found.smoothed) == len(found.rates) < 100  # ended where it diverged
    assert 1e-4 < found.suggested < 1
    assert not (tmp_path / "out").exists()


def test_suggestion_is_where_the_loss_falls_fastest() -> None:
    rates = tuple(10.0**i for i in range(-6, 1))
    assert lr_finder.suggest(rates, (5.0, 5.0, 4.8, 3.0, 1.0, 0.9, 7.0)) == pytest.approx(1e-3)
    with pytest.raises(InputError, match="no learning rate made the loss fall"):
        lr_finder.suggest(rates, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0))


@pytest.mark.parametrize("steps", [50, 200])
def test_the_noise_of_batches_suggests_no_rate(steps: int) -> None:
    rates = tuple(np.geomspace(1e-6, 1, steps))
    falls = np.interp(np.log10(rates), (-4, -2), (0.7, 0.1))
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(0, 0.15, steps)
        suggested = lr_finder.suggest(rates, lr_finder.smooth(list(falls + noise)))
        assert 1e-4 < suggested < 3e-2, seed


def test_smoothing_is_free_of_the_bias_of_its_start() -> None:
    assert lr_finder.smooth([2.0] * 4) == pytest.approx([2.0] * 4)
