"""Temperature scaling: probabilities come to mean what they say, the order of classes stays, and nothing gets worse."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from core.artifacts.training_summary import SUMMARY, TrainingSummary
from tests.trainer import training_data
from tests.trainer.conftest import settings
from trainer.network import backbone, head
from trainer.training import calibration, certainty, checkpoints, train_loop


def sampled(logits: np.ndarray, seed: int = 0) -> np.ndarray:
    """Labels of images for which these logits are right."""
    random = np.random.default_rng(seed)
    return np.array([random.choice(len(row), p=row) for row in special.softmax(logits, axis=1)])


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_the_temperature_is_found_that_the_logits_need(temperature: float) -> None:
    logits = np.random.default_rng(1).normal(size=(3000, 5)) * 2
    labels = sampled(logits)

    found = calibration.calibrate((logits * temperature).astype(np.float32), labels)

    assert found.temperature == pytest.approx(temperature, rel=0.1)
    assert found.calibrated < found.cross_entropy
    assert found.images == 3000


def test_logits_that_are_right_already_are_left_alone_or_hardly_touched() -> None:
    found = [calibration.calibrate(logits, sampled(logits, seed)) for seed, logits in enumerate(_good_logits())]

    assert any(one.temperature == 1.0 for one in found)
    assert all(0.8 < one.temperature < 1.25 and one.calibrated <= one.cross_entropy for one in found)


def _good_logits() -> list[np.ndarray]:
    return [np.random.default_rng(seed).normal(size=(500, 4)) * 2 for seed in range(6)]


def test_a_model_that_is_always_right_gets_a_finite_temperature() -> None:
    labels = np.arange(40) % 4
    found = calibration.calibrate(np.eye(4)[labels] * 3.0, labels)
    assert 0 < found.temperature < 1


def test_the_exported_head_takes_the_temperature_in(
    train: Callable[..., TrainingSummary], frozen_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`frozen_run` was trained in the same way, and has too few images to be calibrated on."""
    monkeypatch.setattr(calibration, "_LEAST", 2)

    summary = train(settings(), "pooled", tmp_path)
    plain = SUMMARY.read(frozen_run / "run")

    assert plain.calibration is None and summary.calibration is not None
    assert summary.calibration.temperature != 1.0
    assert summary.evaluations == plain.evaluations  # of the network as it was trained
    assert summary.calibration.cross_entropy == pytest.approx(summary.best.loss, rel=1e-4)
    exported, trained = (backbone.unfolded(str(out / "Format-Serving")) for out in (tmp_path, frozen_run))
    scaled = head.scaled(trained, summary.calibration.temperature)
    assert exported.keys() == scaled.keys()
    assert all(np.allclose(exported[name], value, rtol=1e-6) for name, value in scaled.items())
    assert not np.array_equal(exported["head/logits/bias"], trained["head/logits/bias"])
    kept = checkpoints.read(str(tmp_path / "run" / "best.ckpt"))
    assert np.array_equal(kept["head/logits/bias"], trained["head/logits/bias"])  # a resumed training is not touched


def test_nothing_is_calibrated_where_the_settings_say_so(
    features_at: Callable[[str], Path],
    transform_directory: Path,
    backbone_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calibration, "_LEAST", 2)
    config = dataclasses.replace(settings(steps=2), calibration="none")
    args = training_data.fn_args(config, features_at("pooled"), transform_directory, backbone_directory, tmp_path)
    trained = train_loop.train(config, args)
    assert certainty.measure(trained, trained.evaluations.best_checkpoint).calibration is None
