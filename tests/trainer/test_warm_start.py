"""What a training begins with of an earlier model, and what it does not."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.trainer import training_data
from tests.trainer.conftest import FAST, SLOW, settings
from trainer import backbone, checkpoints, run, warm_start
from trainer.config import FineTuneConfig, HeadConfig, LearningRateConfig, TrainerConfig

SUFFIX = FineTuneConfig(rules=((FAST, 1.0), (SLOW, 0.1), (".*", 0.0)))
STILL = LearningRateConfig((0.0,))
CLASSES = ("blue", "green", "red")


@pytest.fixture
def packed(backbone_directory: Path, tmp_path: Path) -> Callable[..., Path]:
    """Lays an exported model beside the pre-trained weights, as the component does."""

    def pack(model: Path, classes: tuple[str, ...] = CLASSES) -> Path:
        target = tmp_path / "base"
        shutil.copytree(backbone_directory, target)
        (target / "warm_start").mkdir()
        for file in (model / "Format-Serving" / "variables").iterdir():
            shutil.copy(file, target / "warm_start")
        (target / "warm_start" / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
        (target / "warm_start" / "origin.json").write_text(json.dumps({"uri": "/models/7", "id": 7}))
        return target

    return pack


@pytest.fixture
def arguments(features_at: Callable[[str], Path], transform_directory: Path) -> Callable[..., SimpleNamespace]:
    """Makes what TFX hands to run_fn."""

    def make(config: TrainerConfig, cut: str, base: Path, out: Path) -> SimpleNamespace:
        return training_data.fn_args(config, features_at(cut), transform_directory, base, out)

    return make


def exported(out: Path) -> dict[str, np.ndarray]:
    return checkpoints.read(str(out / "Format-Serving" / "variables" / "variables"))


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
    before, after = exported(suffix_run), exported(tmp_path)
    assert after["global_step"] == 1
    pretrained = checkpoints.read(backbone.checkpoint_path(str(backbone_directory)))
    for name, value in before.items():
        if "moving_" in name and name.split("/")[1] in ("batch_normalization_93", "batch_normalization_85"):
            moved, from_pretrained = np.abs(after[name] - value).max(), np.abs(after[name] - pretrained[name]).max()
            assert 0 < moved < 0.3 * from_pretrained
        elif name != "global_step":
            np.testing.assert_array_equal(after[name], value, err_msg=name)
    began = json.loads((tmp_path / "run" / "training_summary.json").read_text())["warm_start"]
    assert (began["model"], began["head"], began["base_layers"], began["why_not"]) == ("/models/7", "kept", 4, None)


def test_a_checkpoint_of_the_training_itself_comes_first(
    packed: Callable[..., Path], frozen_run: Path, arguments: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    """A training that was interrupted goes on where it was, not where it began."""
    args = arguments(settings(), "pooled", packed(frozen_run), tmp_path)
    first = run.fit(settings(steps=10), args)
    assert first.model.warm_start and first.model.moments is None
    trained = checkpoints.read(str(first.estimator.latest_checkpoint()))
    again = run.fit(settings(steps=11, learning_rate=STILL), args)
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
    model, *_ = run.prepare(config, arguments(config, "mixed9", base, tmp_path))
    shutil.rmtree(base / "warm_start")
    cold, *_ = run.prepare(config, arguments(config, "mixed9", base, tmp_path / "cold"))
    assert model.moments is not None and cold.moments is not None
    assert cold.warm_start is None
    trained = slice(0, 320)  # of mixed10's channels: those that conv2d_85 makes
    assert not np.allclose(model.moments.mean[trained], cold.moments.mean[trained])


def test_classes_in_another_order_take_their_columns_with_them(
    packed: Callable[..., Path], frozen_run: Path, tmp_path: Path
) -> None:
    decided = prepare(packed(frozen_run, ("red", "blue", "green")), settings(), tmp_path)
    assert decided.head == "reordered"
    before, taken = exported(frozen_run), checkpoints.read(str(decided.checkpoint))
    np.testing.assert_array_equal(taken["head/logits/kernel"], before["head/logits/kernel"][:, [1, 2, 0]])
    np.testing.assert_array_equal(taken["head/logits/bias"], before["head/logits/bias"][[1, 2, 0]])
    np.testing.assert_array_equal(taken["head/hidden_0/kernel"], before["head/hidden_0/kernel"])
    np.testing.assert_array_equal(taken["head/standardisation/mean"], before["head/standardisation/mean"])


def test_a_head_of_other_layers_begins_anew(packed: Callable[..., Path], frozen_run: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(settings(), head=HeadConfig(hidden_units=(32, 16)))
    decided = prepare(packed(frozen_run), config, tmp_path)
    assert (decided.head, decided.checkpoint) == ("rebuilt", None)
    assert decided.why_not == "its hidden units were [16], and are [32, 16] now"


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
    data = next((base / "warm_start").glob("variables.data*"))
    data.write_bytes(data.read_bytes()[:-1000])
    decided = prepare(base, settings(), tmp_path)
    assert (decided.head, decided.checkpoint, decided.why_not) == (None, None, "its variables are damaged")


def test_what_was_frozen_may_train_now(packed: Callable[..., Path], frozen_run: Path, tmp_path: Path) -> None:
    decided = prepare(packed(frozen_run), settings(SUFFIX), tmp_path)
    assert (decided.head, decided.base_layers, decided.why_not) == ("kept", 4, None)
