"""What a training begins with of an earlier model, and what it does not."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from core.artifacts import backbone as artifact
from core.artifacts.training_summary import SUMMARY
from core.settings import converter
from core.settings.training import FineTuneConfig, HeadConfig, LearningRateConfig, TrainerConfig
from core.settings.tuner import TunerConfig
from tests.trainer import training_data
from tests.trainer.conftest import FAST, SLOW, settings
from trainer import run, tuning
from trainer.network import backbone
from trainer.training import checkpoints, train_loop, warm_start

SUFFIX = FineTuneConfig(rules=((FAST, 1.0), (SLOW, 0.1), (".*", 0.0)))
STILL, ABSURD = LearningRateConfig((0.0,)), LearningRateConfig((30.0,))
CLASSES = ("blue", "green", "red")


@pytest.fixture
def arguments(features_at: Callable[[str], Path], transform_directory: Path) -> Callable[..., SimpleNamespace]:
    """Makes what TFX hands to run_fn."""

    def make(config: TrainerConfig, cut: str, base: Path, out: Path) -> SimpleNamespace:
        return training_data.fn_args(config, features_at(cut), transform_directory, base, out)

    return make


@pytest.fixture
def misled(
    arguments: Callable[..., SimpleNamespace],
    features_at: Callable[[str], Path],
    packed: Callable[..., Path],
    frozen_run: Path,
    tmp_path: Path,
) -> Callable[[TrainerConfig, str], SimpleNamespace]:
    """Makes what TFX hands to run_fn for a warm start from `frozen_run` that can only spoil it.

    In the training files of the cut every image has the label of another class.
    """

    def make(config: TrainerConfig, cut: str) -> SimpleNamespace:
        records = []
        for record in training_data.read_split(features_at(cut), "train"):
            example = tf.train.Example.FromString(record)
            label = example.features.feature["label_xf"].int64_list
            label.value[0] = (label.value[0] + 1) % len(CLASSES)
            records.append(example.SerializeToString())
        training_data.write_split(tmp_path / "mislabeled", "train", records)
        shutil.copy(features_at(cut) / "features.json", tmp_path / "mislabeled")
        args = arguments(config, cut, packed(frozen_run), tmp_path)
        args.train_files = [f"{tmp_path}/mislabeled/Split-train/*"]
        return args

    return make


def exported(out: Path) -> dict[str, np.ndarray]:
    return backbone.unfolded(str(out / "Format-Serving"))


def prepare(base: Path, config: TrainerConfig, out: Path, classes: tuple[str, ...] = CLASSES) -> warm_start.WarmStart:
    decided = warm_start.prepare(str(base), config, classes, str(out))
    assert decided is not None and decided == warm_start.read_record(str(out))
    assert decided.model == "/models/7"
    return decided


def test_without_a_packed_model_nothing_is_taken(backbone_directory: Path, tmp_path: Path) -> None:
    assert warm_start.prepare(str(backbone_directory), settings(), CLASSES, str(tmp_path)) is None
    assert warm_start.read_record(str(tmp_path)) is None


def test_training_goes_on_from_the_earlier_model_but_for_the_step(
    packed: Callable[..., Path],
    suffix_run: Path,
    arguments: Callable[..., SimpleNamespace],
    backbone_directory: Path,
    tmp_path: Path,
) -> None:
    """At a rate of zero, a step later all is as in the earlier model; BatchNorm's statistics went on from there."""
    config = settings(SUFFIX, steps=1, eval_every=1, learning_rate=STILL)
    run.run_fn(arguments(config, "mixed9", packed(suffix_run), tmp_path))
    before, after = exported(suffix_run), checkpoints.read(tf.train.latest_checkpoint(str(tmp_path / "run")))
    assert after["global_step"] == 1
    pretrained = checkpoints.read(artifact.checkpoint(str(backbone_directory)))
    for name in (before.keys() & after.keys()) - {"global_step"}:
        if "moving_" in name and name.split("/")[1] in ("batch_normalization_93", "batch_normalization_85"):
            moved = np.abs(after[name] - before[name]).max()
            assert 0 < moved < 0.3 * np.abs(after[name] - pretrained[name]).max()
        else:  # frozen kernels are the pre-trained ones, exactly; unfolded they differ in the last bit
            np.testing.assert_allclose(after[name], before[name], rtol=2e-7, atol=0, err_msg=name)
    began = SUMMARY.read(tmp_path / "run").warm_start
    assert began
    assert (began.model, began.head, began.base_layers, began.why_not) == ("/models/7", "kept", 4, None)


def test_training_that_only_spoils_the_earlier_model_exports_that_bit_for_bit(
    misled: Callable[[TrainerConfig, str], SimpleNamespace], frozen_run: Path, tmp_path: Path
) -> None:
    """It is evaluated as it is, as step 0, and is the best; patience and phases count from there."""
    config = settings(SUFFIX, steps=90, head_steps=20, early_stopping=2, learning_rate=ABSURD)
    run.run_fn(misled(config, "mixed9"))
    before, after = exported(frozen_run), exported(tmp_path)
    assert after.pop("global_step") == 0 and before.pop("global_step") > 0
    assert before.keys() == after.keys()
    for name, value in before.items():
        if not name.startswith("novelty/"):  # which is measured anew
            np.testing.assert_array_equal(after[name], value, err_msg=name)
    summary = SUMMARY.read(tmp_path / "run")
    assert [e.step for e in summary.evaluations] == [0, 10, 20, 30, 40]
    assert summary.best == summary.evaluations[0] and summary.best.accuracy > 0.9
    assert [note for note in summary.notes if note.startswith("training did not improve on the last blessed model")]


def test_training_that_is_interrupted_keeps_the_evaluation_it_began_with(
    misled: Callable[[TrainerConfig, str], SimpleNamespace], frozen_run: Path
) -> None:
    args = misled(settings(), "pooled")
    interrupted = train_loop.train(settings(steps=10), args).evaluations
    resumed = train_loop.train(settings(steps=20), args).evaluations
    assert [e.step for e in resumed.history] == [0, 10, 20]
    assert resumed.best == interrupted.history[0]
    before, kept = exported(frozen_run), checkpoints.read(resumed.best_checkpoint)
    np.testing.assert_array_equal(kept["head/logits/kernel"], before["head/logits/kernel"])


def test_a_trial_of_a_search_that_only_spoils_the_earlier_model_counts_as_that_model(
    misled: Callable[[TrainerConfig, str], SimpleNamespace],
) -> None:
    """As the Trainer would export it: of such trials none is better than another."""
    space = TunerConfig(trials=2, steps=10, hidden_units=((16,),), dropout=(0.0,), l2=(0.0,), learning_rate=(1.0, 30.0))
    args = misled(settings(), "pooled")
    args.custom_config["tuner"] = converter.to_json(space)
    tuner, _ = tuning.tuner_fn(args)
    tuner.search()
    trials = tuner.oracle.get_best_trials(2)
    assert [trial.metrics.get_best_value("step") for trial in trials] == [0, 0]
    assert trials[0].score == trials[1].score and trials[0].metrics.get_best_value("eval_accuracy") > 0.9


def test_a_checkpoint_of_the_training_itself_comes_first(
    packed: Callable[..., Path], frozen_run: Path, arguments: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    """A training that was interrupted goes on where it was, not where it began."""
    args = arguments(settings(), "pooled", packed(frozen_run), tmp_path)
    first = train_loop.train(settings(steps=10), args)
    assert first.model.warm_start and first.model.moments is None
    trained = checkpoints.read(str(first.estimator.latest_checkpoint()))
    again = train_loop.train(settings(steps=11, learning_rate=STILL), args)
    assert again.model.warm_start is None
    found = checkpoints.read(str(again.estimator.latest_checkpoint()))
    assert found["global_step"] == 11
    np.testing.assert_array_equal(found["head/logits/kernel"], trained["head/logits/kernel"])


def test_with_other_classes_the_head_begins_anew_and_the_base_does_not(
    packed: Callable[..., Path], suffix_run: Path, tmp_path: Path
) -> None:
    decided = prepare(packed(suffix_run), settings(SUFFIX), tmp_path, ("blue", "red", "yellow"))
    assert (decided.head, decided.base_layers) == ("rebuilt", 4)
    assert decided.why_not == "the classes changed from blue, green, red to blue, red, yellow"
    assert {name.split("/")[0] for name in checkpoints.read(str(decided.checkpoint))} == {"InceptionV3"}


def test_a_rebuilt_head_standardises_what_the_earlier_base_makes(
    packed: Callable[..., Path], suffix_run: Path, arguments: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    """Not what the pre-trained base would: the moments are those that the earlier model measured, but for its moves."""
    config = dataclasses.replace(settings(SUFFIX), head=HeadConfig(hidden_units=(8,)))
    base = packed(suffix_run)
    model, *_ = train_loop.prepare(config, arguments(config, "mixed9", base, tmp_path))
    shutil.rmtree(base / "warm_start")
    cold, *_ = train_loop.prepare(config, arguments(config, "mixed9", base, tmp_path / "cold"))
    assert model.moments is not None and cold.moments is not None
    assert cold.warm_start is None
    trained = slice(0, 320)  # of mixed10's channels: those that conv2d_85 makes
    assert not np.allclose(model.moments.mean[trained], cold.moments.mean[trained])
    assert not model.starts_trained  # so it is not evaluated before it is trained


def test_classes_in_another_order_take_their_columns_with_them(
    packed: Callable[..., Path], frozen_run: Path, tmp_path: Path
) -> None:
    decided = prepare(packed(frozen_run, ("red", "blue", "green")), settings(), tmp_path)
    assert decided.head == "reordered"
    before, taken = exported(frozen_run), checkpoints.read(str(decided.checkpoint))
    np.testing.assert_array_equal(taken["head/logits/kernel"], before["head/logits/kernel"][:, [1, 2, 0]])
    np.testing.assert_array_equal(taken["head/logits/bias"], before["head/logits/bias"][[1, 2, 0]])
    np.testing.assert_array_equal(taken["head/hidden_0/kernel"], before["head/hidden_0/kernel"])
    np.testing.assert_array_equal(taken["head/standardization/mean"], before["head/standardization/mean"])


def test_a_head_of_other_layers_begins_anew(packed: Callable[..., Path], frozen_run: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(settings(), head=HeadConfig(hidden_units=(32, 16)))
    decided = prepare(packed(frozen_run), config, tmp_path)
    assert (decided.head, decided.checkpoint) == ("rebuilt", None)
    assert decided.why_not == "its hidden units were [16], and are [32, 16] now"


def test_a_head_on_another_block_begins_anew(packed: Callable[..., Path], frozen_run: Path, tmp_path: Path) -> None:
    """Also on one as wide (mixed9 is), whose features mean something else."""
    base = packed(frozen_run)
    for output in ("mixed9", "mixed8"):
        decided = prepare(base, settings(output=output), tmp_path)
        assert (decided.head, decided.checkpoint) == ("rebuilt", None)
        assert decided.why_not == f"its base continued after {output}, where that of this training ends"


def test_a_base_that_moved_where_it_is_frozen_now_is_not_taken(
    packed: Callable[..., Path], suffix_run: Path, tmp_path: Path
) -> None:
    """Nor is its head, which has learnt on what that base made."""
    decided = prepare(packed(suffix_run), settings(), tmp_path)
    assert (decided.head, decided.checkpoint) == (None, None)
    assert decided.why_not == "its layer conv2d_85, which is frozen now, is not that of the pre-trained weights"


def test_a_model_whose_files_are_damaged_is_not_taken_and_ends_no_run(
    packed: Callable[..., Path], frozen_run: Path, tmp_path: Path
) -> None:
    base = packed(frozen_run)
    data = next((base / "warm_start" / "variables").glob("variables.data*"))
    data.write_bytes(data.read_bytes()[:-1000])
    decided = prepare(base, settings(), tmp_path)
    assert (decided.head, decided.checkpoint, decided.why_not) == (None, None, "its variables are damaged")


def test_what_was_frozen_may_train_now(packed: Callable[..., Path], frozen_run: Path, tmp_path: Path) -> None:
    decided = prepare(packed(frozen_run), settings(SUFFIX), tmp_path)
    assert (decided.head, decided.base_layers, decided.why_not) == ("kept", 4, None)
