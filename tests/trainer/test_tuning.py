"""The search, by TFX's Tuner executor and real trainings on pooled features."""

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

from core.errors import InputError
from core.settings import converter
from core.settings.training import TrainerConfig
from core.settings.tuner import TunerConfig
from tests.trainer import training_data
from tests.trainer.conftest import settings
from trainer import run, tuning
from trainer.training import train_loop

SPACE = TunerConfig(trials=3, steps=20, hidden_units=((), (16,)), dropout=(0.0,), l2=(0.0,), learning_rate=(1e-6, 1e-2))


@pytest.fixture
def tuner_args(
    features_at: Callable[[str], Path], transform_directory: Path, backbone_directory: Path, tmp_path: Path
) -> Callable[[TunerConfig, TrainerConfig], SimpleNamespace]:
    def make(space: TunerConfig, trained: TrainerConfig) -> SimpleNamespace:
        args = training_data.fn_args(trained, features_at("pooled"), transform_directory, backbone_directory, tmp_path)
        args.custom_config["tuner"] = converter.to_json(space)
        return args

    return make


@pytest.mark.slow
def test_search_names_the_best_trial_and_reports_each(
    tuner_args: Callable[..., SimpleNamespace], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tfx.components.tuner import executor
    from tfx.types import standard_artifacts

    outputs = {
        "best_hyperparameters": standard_artifacts.HyperParameters(),
        "tuner_results": standard_artifacts.TunerResults(),
    }
    for name, artifact in outputs.items():
        artifact.uri = str(tmp_path / name)
    with caplog.at_level(logging.INFO, logger="progress"):
        tuner, fit_kwargs = tuning.tuner_fn(tuner_args(SPACE, settings()))
        tuner.search(**fit_kwargs)
    executor.write_best_hyperparameters(tuner, {name: [artifact] for name, artifact in outputs.items()})

    trials = json.loads((tmp_path / "tuner_results" / "tuner_results.json").read_text())
    best = json.loads((tmp_path / "best_hyperparameters" / "best_hyperparameters.txt").read_text())["values"]
    assert len(trials) == 3
    assert {t["learning_rate"] for t in trials} == {1e-6, 1e-2}
    lowest = min(trials, key=lambda t: t["score"])
    assert best == {name: lowest[name] for name in best}
    assert best["learning_rate"] == 1e-2  # at 1e-6 nothing is learnt in 20 steps
    said = [r.progress for r in caplog.records if getattr(r, "progress", {}).get("unit") == "trials"]
    assert [(p["done"], p["total"]) for p in said] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert not list((tmp_path / "work").rglob("model.ckpt*"))


@pytest.mark.slow
def test_the_same_seed_searches_the_same_way(tuner_args: Callable[..., SimpleNamespace]) -> None:
    space = dataclasses.replace(SPACE, trials=2, algorithm="random")

    def scores() -> list[tuple[object, float]]:
        tuner, _ = tuning.tuner_fn(tuner_args(space, settings()))
        tuner.search()
        return [(t.hyperparameters.values, t.score) for t in tuner.oracle.get_best_trials(2)]

    first = scores()
    assert len(first) == 2
    assert scores() == first


@pytest.mark.slow
def test_a_block_is_chosen_from_features_of_several(
    raw_examples: Path,
    transform_directory: Path,
    backbone_directory: Path,
    features_at: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """A trial on one of several blocks is the training on features of that block alone; the export is cut there."""
    features = tmp_path / "features"
    training_data.write_features(
        raw_examples, transform_directory, backbone_directory, "pooled", ["mixed0", "mixed10"], features
    )
    args = training_data.fn_args(settings(), features, transform_directory, backbone_directory, tmp_path / "both")
    alone = training_data.fn_args(
        settings(), features_at("pooled"), transform_directory, backbone_directory, tmp_path / "alone"
    )
    both, one = (dataclasses.asdict(train_loop.train(settings(), a).evaluations.best) for a in (args, alone))
    assert both == pytest.approx(one, rel=1e-4)

    args.model_run_dir, args.serving_model_dir = str(tmp_path / "first" / "run"), str(tmp_path / "first" / "model")
    args.hyperparameters = {"values": {"output": "mixed0"}}
    run.run_fn(args)
    names = {name for name, _ in tf.train.list_variables(str(tmp_path / "first" / "model" / "variables" / "variables"))}
    assert "InceptionV3/conv2d_11/kernel" in names  # the last of mixed0
    assert "InceptionV3/conv2d_12/kernel" not in names


def test_a_search_of_which_nothing_trains_says_why(tuner_args: Callable[..., SimpleNamespace]) -> None:
    space = dataclasses.replace(SPACE, trials=2, learning_rate=(1e38, 1e37))
    tuner, _ = tuning.tuner_fn(tuner_args(space, settings(optimizer="sgd")))
    with pytest.raises(InputError, match=r"none of 2 trials could be trained.*diverged"):
        tuner.search()
