"""run_fn as TFX calls it, on small real data."""

import dataclasses
import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from core.artifacts import backbone as artifact
from core.artifacts import exported_model
from core.artifacts.training_summary import SUMMARY, Parameters, TrainingSummary
from core.errors import InputError
from core.settings.training import AugmentationConfig, BackboneConfig, FineTuneConfig, HeadConfig, LearningRateConfig
from tests.conftest import ROOT
from tests.trainer import training_data
from tests.trainer.conftest import FAST, SLOW, settings
from trainer.network import backbone, head
from trainer.training import checkpoints, resume, train_loop
from trainer.training.evaluations import Evaluations
from trainer.training.summary import notes_on_classes, notes_on_rules
from trainer.weights import h5
from trainer.weights.importing import import_weights


@pytest.fixture
def pooled_args(
    features_at: Callable[[str], Path], transform_directory: Path, backbone_directory: Path, tmp_path: Path
) -> SimpleNamespace:
    return training_data.fn_args(settings(), features_at("pooled"), transform_directory, backbone_directory, tmp_path)


def summary_of(out: Path) -> TrainingSummary:
    return SUMMARY.read(out / "run")


def exported(out: Path) -> dict[str, np.ndarray]:
    """The exported network, unfolded; `test_saved_model` compares the SavedModel with it."""
    return backbone.unfolded(str(out / "Format-Serving"))


def like_trained(found: np.ndarray, value: np.ndarray) -> bool:
    """Whether an unfolded variable is one as trained: but for the last bit of a kernel."""
    return bool(np.allclose(found, value, rtol=2e-7, atol=0))


def test_frozen_base_is_exported_bit_for_bit(frozen_run: Path, weights_file: Path) -> None:
    source = h5.read_h5(weights_file)
    found = exported(frozen_run)
    assert len(source) == 376
    assert all(like_trained(found[f"InceptionV3/{name}"], value) for name, value in source.items())
    folded = backbone.fold({f"InceptionV3/{name}": value for name, value in source.items()})
    served = checkpoints.read(exported_model.checkpoint(str(frozen_run / "Format-Serving")))
    for name, value in folded.items():
        np.testing.assert_array_equal(served[name], value, err_msg=name)
    assert {n.split("/")[0] for n in found} == {"InceptionV3", "head", "novelty", "abstention", "global_step"}


def test_training_checkpoints_of_a_frozen_base_have_none_of_it(frozen_run: Path) -> None:
    latest = tf.train.latest_checkpoint(str(frozen_run / "run"))
    assert not [name for name, _ in tf.train.list_variables(latest) if name.startswith("InceptionV3")]


def test_only_what_the_rules_train_moves(suffix_run: Path, backbone_directory: Path) -> None:
    """Kernels, betas and statistics of trainable layers move; frozen ones, also BatchNorm's statistics, do not."""
    source = checkpoints.read(artifact.checkpoint(str(backbone_directory)))
    found = exported(suffix_run)
    moved = {name for name, value in source.items() if not like_trained(found[name], value)}
    assert moved == {
        f"InceptionV3/{layer}/{weight}"
        for number in (93, 85)
        for layer, weight in (
            (f"conv2d_{number}", "kernel"),
            (f"batch_normalization_{number}", "beta"),
            (f"batch_normalization_{number}", "moving_mean"),
            (f"batch_normalization_{number}", "moving_variance"),
        )
    }


def test_summary_says_what_was_trained_and_how_it_went(suffix_run: Path) -> None:
    summary = summary_of(suffix_run)
    assert summary.steps == 20
    assert summary.cut == "mixed9"
    assert summary.classes == ["blue", "green", "red"]
    assert [e.step for e in summary.evaluations] == [10, 20]
    assert summary.best == min(summary.evaluations, key=lambda e: e.loss)
    assert (summary.backbone.source, summary.backbone.random) == ("weights.h5", False)
    assert {r.rule for r in summary.rules} == {FAST, SLOW, ".*"}
    assert sum(r.layers for r in summary.rules) == 310
    assert summary.trained_layers == {
        "conv2d_85": 0.1,
        "batch_normalization_85": 0.1,
        "conv2d_93": 1.0,
        "batch_normalization_93": 1.0,
    }
    in_head = 2048 * 16 + 16 + 16 * 3 + 3
    in_base = 1280 * 0 + 2048 * 192 + 192 + 2048 * 320 + 320
    in_keras = 21_802_784  # all that Keras counts in InceptionV3 without top
    assert summary.parameters == Parameters(trained=in_base + in_head, head=in_head, frozen=in_keras - in_base)


def test_colors_are_learnt_and_the_best_evaluation_is_exported(frozen_run: Path) -> None:
    summary = summary_of(frozen_run)
    assert summary.best.accuracy > 0.9
    assert exported(frozen_run)["global_step"] == summary.best.step


def test_same_seed_gives_the_same_metrics(frozen_run: Path, pooled_args: SimpleNamespace) -> None:
    again = train_loop.train(settings(), pooled_args)
    assert again.evaluations.history == summary_of(frozen_run).evaluations
    other = SimpleNamespace(**{**vars(pooled_args), "model_run_dir": pooled_args.model_run_dir + "-other"})
    assert train_loop.train(settings(seed=2), other).evaluations.history != again.evaluations.history


def test_same_seed_trains_the_same_network(
    suffix_run: Path,
    features_at: Callable[[str], Path],
    transform_directory: Path,
    backbone_directory: Path,
    tmp_path: Path,
) -> None:
    """Also where convolutions and BatchNorm train."""
    config = settings(FineTuneConfig(rules=((FAST, 1.0), (SLOW, 0.1), (".*", 0.0))))
    args = training_data.fn_args(config, features_at("mixed9"), transform_directory, backbone_directory, tmp_path)
    assert train_loop.train(config, args).evaluations.history == summary_of(suffix_run).evaluations


def test_restart_continues_from_the_last_checkpoint(
    pooled_args: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    first = train_loop.train(settings(steps=10), pooled_args)
    assert [e.step for e in first.evaluations.history] == [10]
    with caplog.at_level(logging.INFO, "progress"):
        second = train_loop.train(settings(steps=20), pooled_args)
    assert [e.step for e in second.evaluations.history] == [10, 20]
    assert min(r.progress["done"] for r in caplog.records if hasattr(r, "progress")) >= 10  # type: ignore[attr-defined]
    third = train_loop.train(settings(steps=20), pooled_args)  # nothing left to do
    assert third.evaluations.history == second.evaluations.history


def test_killed_training_ends_as_one_that_was_not(
    features_at: Callable[[str], Path], transform_directory: Path, backbone_directory: Path, tmp_path: Path
) -> None:
    """`kill -9` of the process, soon after a checkpoint; BatchNorm, dropout and Adam go on where they were.

    In another folder, since TFX gives the next run's execution one of its own.
    """
    fine_tune = FineTuneConfig(rules=((FAST, 1.0), (SLOW, 0.1), (".*", 0.0)))
    config = settings(fine_tune, steps=60, eval_every=15, early_stopping=None)

    def args_in(out: Path) -> SimpleNamespace:
        args = training_data.fn_args(config, features_at("mixed9"), transform_directory, backbone_directory, out)
        args.model_run_dir = str(out)
        return args

    killed, whole = args_in(tmp_path / "model_run" / "1"), args_in(tmp_path / "whole")
    task = tmp_path / "task.json"
    task.write_text(json.dumps(vars(killed)))
    process = subprocess.Popen([sys.executable, "-m", "trainer.task", str(task)], cwd=ROOT, stderr=subprocess.DEVNULL)
    train_loop.train(config, whole)  # meanwhile
    while process.poll() is None and last_step(killed) < 30:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    stopped_at = last_step(killed)
    assert 30 <= stopped_at < 60
    next_run = args_in(tmp_path / "model_run" / "2")
    assert resume.resume(next_run) == stopped_at
    again = train_loop.train(config, next_run)
    assert [e.step for e in again.evaluations.history] == [15, 30, 45, 60]
    found, wanted = (checkpoints.read(tf.train.latest_checkpoint(a.model_run_dir)) for a in (next_run, whole))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_only_a_training_of_the_same_inputs_that_did_not_end_is_taken_over(
    pooled_args: SimpleNamespace, tmp_path: Path
) -> None:
    def execution(number: int, **other: object) -> SimpleNamespace:
        return SimpleNamespace(
            **vars(pooled_args) | {"model_run_dir": str(tmp_path / "model_run" / str(number))} | other
        )

    first = execution(1)
    assert resume.resume(first) == 0
    wanted = train_loop.train(settings(steps=10), first).evaluations.history
    assert resume.resume(execution(2)) == 10
    assert Evaluations(execution(2).model_run_dir, None).history == wanted
    assert resume.resume(execution(3, train_files=["/other/*"])) == 0
    assert resume.resume(execution(4, custom_config={"trainer": {}, "code": "of another version"})) == 0
    for number in (1, 2):
        (tmp_path / "model_run" / str(number) / SUMMARY.name).touch()
    assert resume.resume(execution(5)) == 0


def last_step(args: SimpleNamespace) -> int:
    return checkpoints.step(tf.train.latest_checkpoint(args.model_run_dir))


def test_head_trains_first_and_then_the_suffix_from_the_same_checkpoint(
    features_at: Callable[[str], Path], transform_directory: Path, backbone_directory: Path, tmp_path: Path
) -> None:
    """In the first phase not a bit of the base moves, nor of BatchNorm's statistics, nor of its optimizers' state."""
    fine_tune = FineTuneConfig(rules=((FAST, 1.0), (SLOW, 0.1), (".*", 0.0)))

    def fit(steps: int, out: Path) -> tuple[train_loop.Trained, dict[str, np.ndarray]]:
        config = settings(fine_tune, steps=steps, head_steps=10)
        features = features_at("mixed9")
        args = training_data.fn_args(config, features, transform_directory, backbone_directory, out)
        fitted = train_loop.train(config, args)
        return fitted, checkpoints.read(fitted.estimator.latest_checkpoint())

    source = checkpoints.read(artifact.checkpoint(str(backbone_directory)))
    _, after_head = fit(10, tmp_path / "phases")
    of_base = {name: value for name, value in after_head.items() if name.startswith("InceptionV3/")}
    slots = {name for name in of_base if name.endswith(("/Adam", "/Adam_1"))}
    assert len(slots) == 2 * 4
    for name, value in of_base.items():
        np.testing.assert_array_equal(value, 0 if name in slots else source[name], err_msg=name)
    second, after_both = fit(20, tmp_path / "phases")
    assert [e.step for e in second.evaluations.history] == [10, 20]
    moved = {name.split("/")[1] for name in of_base if not np.array_equal(after_both[name], after_head[name])}
    assert moved == {f"{kind}_{number}" for kind in ("conv2d", "batch_normalization") for number in (93, 85)}
    assert not np.array_equal(after_both["head/logits/kernel"], after_head["head/logits/kernel"])
    at_once, after_one_run = fit(20, tmp_path / "at-once")
    assert at_once.evaluations.history == second.evaluations.history
    for name, value in after_one_run.items():
        np.testing.assert_array_equal(after_both[name], value, err_msg=name)


def test_patience_is_not_counted_while_the_head_alone_trains(pooled_args: SimpleNamespace) -> None:
    """With a rate of zero no evaluation is better than the first."""
    config = settings(steps=50, eval_every=5, early_stopping=2, head_steps=20, learning_rate=LearningRateConfig((0.0,)))
    assert [e.step for e in train_loop.train(config, pooled_args).evaluations.history] == [5, 10, 15, 20, 25, 30]


def test_random_base_with_batch_norm_that_trains_starts_with_a_sane_loss(
    raw_examples: Path, transform_directory: Path, tmp_path: Path
) -> None:
    """The standardisation is of features as BatchNorm gives them in training, not with its initial statistics."""
    base = tmp_path / "random"
    import_weights(BackboneConfig(weights="random", image_size=training_data.SIZE), str(base))
    config = settings(
        FineTuneConfig(last_layers=1000),
        output="mixed0",
        steps=2,
        eval_every=2,
        learning_rate=LearningRateConfig((0.0,)),
    )
    args = training_data.fn_args(config, raw_examples, transform_directory, base, tmp_path / "out")
    train_loop.train(config, args)
    losses = summaries(args, "loss").values()
    assert losses and max(losses) < 5  # three classes: an untrained head that knows nothing has 1.1


def summaries(args: SimpleNamespace, tag: str) -> dict[int, float]:
    """What the event files of training hold, by step."""
    return {
        event.step: value.simple_value
        for path in Path(args.model_run_dir).glob("events.out.tfevents.*")
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.tag == tag
    }


def test_rate_is_in_the_event_files(pooled_args: SimpleNamespace) -> None:
    rate = LearningRateConfig((0.01,), schedule="cosine", warmup_steps=5)
    train_loop.train(settings(steps=20, learning_rate=rate), pooled_args)
    found = summaries(pooled_args, "learning_rate")
    assert found[1] == pytest.approx(0.002)
    assert found[max(found)] < 0.001


def test_loss_that_compares_with_evaluations_is_in_the_event_files(pooled_args: SimpleNamespace) -> None:
    """Without penalties; `loss`, which is minimised, has them."""
    config = dataclasses.replace(settings(steps=10), head=HeadConfig(hidden_units=(), l2=100.0))
    (evaluation,) = train_loop.train(config, pooled_args).evaluations.history
    compared, minimised = (summaries(pooled_args, tag)[10] for tag in ("average_loss", "loss"))
    assert abs(compared - evaluation.loss) < 1 < minimised - compared


def test_classes_with_few_images_are_noted(frozen_run: Path) -> None:
    assert summary_of(frozen_run).notes == []  # 24 images each
    (note,) = notes_on_classes(("blue", "green", "red"), (24, 19, 0))
    assert note.startswith("few training images: green 19, red 0;")


def test_rules_that_select_only_layers_without_weights_are_noted() -> None:
    """As Keras's last five are: whoever asks for them should know that nothing of the base trains."""
    (note,) = notes_on_rules(settings(FineTuneConfig(last_layers=5)))
    assert note.startswith("the whole base is frozen: fine_tune (last_layers: 5) selects 5 of its layers, ")
    assert note.endswith(" to mixed10, and none of them has weights")
    assert notes_on_rules(settings(FineTuneConfig(last_layers=5), output="mixed8")) == ()  # a BatchNorm is among them
    assert notes_on_rules(settings()) == ()


def test_evaluation_missed_before_a_restart_is_made_up_for(pooled_args: SimpleNamespace) -> None:
    train_loop.train(settings(steps=10), pooled_args)
    (Path(pooled_args.model_run_dir) / "evaluations.jsonl").unlink()
    assert [e.step for e in train_loop.train(settings(steps=10), pooled_args).evaluations.history] == [10]


def test_training_stops_once_the_loss_no_longer_falls(pooled_args: SimpleNamespace) -> None:
    """With a rate of zero no evaluation is better than the first."""
    config = settings(steps=50, eval_every=5, early_stopping=2, learning_rate=LearningRateConfig((0.0,)))
    fitted = train_loop.train(config, pooled_args)
    assert [e.step for e in fitted.evaluations.history] == [5, 10, 15]
    assert fitted.evaluations.best.step == 5
    again = train_loop.train(config, pooled_args)  # a restart does not go on where training had stopped
    assert len(again.evaluations.history) == 3


def test_balanced_class_weights_come_from_the_training_split(
    pooled_args: SimpleNamespace, features_at: Callable[[str], Path], tmp_path: Path
) -> None:
    skewed = tmp_path / "skewed"
    records = training_data.read_split(features_at("pooled"), "train")
    training_data.write_split(skewed, "train", records[0::3] + records[1::3][:6] + records[2::3][:6])
    training_data.write_split(skewed, "eval", training_data.read_split(features_at("pooled"), "eval"))
    (skewed / "features.json").write_text((features_at("pooled") / "features.json").read_text())
    args = SimpleNamespace(**{**vars(pooled_args), "train_files": [f"{skewed}/Split-train/*"]})
    config = dataclasses.replace(settings(steps=2), head=HeadConfig(hidden_units=(), class_weights="balanced"))
    np.testing.assert_allclose(train_loop.train(config, args).model.class_weights, [0.5, 2.0, 2.0])


def test_without_a_cut_images_are_read_live(
    train: Callable[..., TrainingSummary], backbone_directory: Path, tmp_path: Path
) -> None:
    """The first layer trains, all above it is frozen; a base that ends at its first block makes that quick."""
    fine_tune = FineTuneConfig(rules=(("conv2d", 1.0), (".*", 0.0)))
    summary = train(settings(fine_tune, output="mixed0", steps=2, eval_every=2, batch_size=8), None, tmp_path)
    assert summary.cut is None
    source = checkpoints.read(artifact.checkpoint(str(backbone_directory)))
    found = exported(tmp_path)
    in_base = {n: v for n, v in found.items() if n.startswith("InceptionV3/")}
    assert len(in_base) == 48  # 12 convolutions with BatchNorm
    assert {n for n, v in in_base.items() if not like_trained(v, source[n])} == {"InceptionV3/conv2d/kernel"}


def test_standardisation_is_of_the_training_features(frozen_run: Path, features_at: Callable[[str], Path]) -> None:
    records = [tf.train.Example.FromString(r) for r in training_data.read_split(features_at("pooled"), "train")]
    wanted = head.moments(
        [np.stack([np.frombuffer(e.features.feature["features"].bytes_list.value[0], "<f4") for e in records])]
    )
    found = exported(frozen_run)
    np.testing.assert_allclose(found["head/standardization/mean"], wanted.mean, rtol=1e-5)
    np.testing.assert_allclose(found["head/standardization/variance"], wanted.variance, rtol=1e-4, atol=1e-20)


def test_features_of_another_cut_are_refused(pooled_args: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="taken at pooled, but the rules of fine_tune imply mixed8"):
        train_loop.train(settings(FineTuneConfig(from_layer="mixed9")), pooled_args)


def test_diverging_training_is_explained(pooled_args: SimpleNamespace) -> None:
    config = settings(optimizer="sgd", learning_rate=LearningRateConfig((1e30,)))
    with pytest.raises(InputError, match=r"Lower training\.learning_rate"):
        train_loop.train(config, pooled_args)


def test_live_augmentation_trains_the_head_on_a_base_that_stays_frozen(
    train: Callable[..., TrainingSummary], backbone_directory: Path, tmp_path: Path
) -> None:
    """Every step reads images; the base gets no gradient, and BatchNorm's statistics stay, as with cached features."""
    augmentation = AugmentationConfig(flip=True, crop=0.1, brightness=0.1)
    config = settings(output="mixed0", steps=4, eval_every=2, batch_size=8, augmentation=augmentation)
    summary = train(config, None, tmp_path)
    assert summary.cut is None and summary.trained_layers == {}
    source = checkpoints.read(artifact.checkpoint(str(backbone_directory)))
    found = exported(tmp_path)
    assert all(like_trained(found[name], source[name]) for name in found if name.startswith("InceptionV3/"))
    assert np.abs(found["head/logits/bias"]).max() > 0
