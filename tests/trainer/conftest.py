"""Fixtures of the trainer's tests: made once, by the real code, and read by many."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tensorflow import keras

from core.artifacts.backbone import PACKED, PackedModel, packed_model
from core.artifacts.training_summary import SUMMARY, TrainingSummary
from core.image_limits import ImageLimits
from core.settings.training import (
    BackboneConfig,
    FineTuneConfig,
    HeadConfig,
    LearningRateConfig,
    TrainerConfig,
    TrainingConfig,
)
from tests.shared_folder import shared_folder
from tests.trainer import training_data
from trainer import run
from trainer.network import backbone
from trainer.weights.importing import import_weights

SIZE = training_data.SIZE


class KerasAnswer(NamedTuple):
    """Of Keras's InceptionV3: the arrays of its layers, their file, and what it makes of images: the map of mixed10."""

    weights: list[np.ndarray]
    path: Path
    images: np.ndarray
    output: np.ndarray


@pytest.fixture(scope="session")
def raw_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Examples artifact: 3 classes, 72 training and 24 evaluation images."""
    return shared_folder(
        tmp_path_factory, "raw", lambda artifact: training_data.write_raw_examples(artifact, train=24, evaluate=8)
    )


@pytest.fixture(scope="session")
def transform_directory(raw_examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    train = training_data.read_split(raw_examples, "train")
    return shared_folder(tmp_path_factory, "transform", lambda folder: training_data.run_transform(train, folder))


@pytest.fixture(scope="session")
def keras_answer(tmp_path_factory: pytest.TempPathFactory) -> KerasAnswer:
    """A file that Keras wrote, in which no tensor equals its variable's initial value.

    The names in the file are not the canonical ones: the process had made another layer before.
    """
    images = np.random.default_rng(0).uniform(-1, 1, (2, SIZE, SIZE, 3)).astype(np.float32)

    def ask(folder: Path) -> None:
        keras.backend.clear_session()
        keras.utils.set_random_seed(3)
        keras.layers.Conv2D(1, 1).build((None, 4, 4, 1))
        model = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
        assert model.layers[1].name == "conv2d_1"
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                beta, mean, variance = layer.get_weights()
                layer.set_weights([beta + 0.1, mean - 0.05, variance * 0.3])
        model.save_weights(str(folder / "weights.h5"))
        weights = [value for layer in model.layers for value in layer.get_weights()]
        np.savez(folder / "weights.npz", *weights)
        np.save(folder / "output.npy", model.predict(images, verbose=0))

    folder = shared_folder(tmp_path_factory, "keras", ask)
    with np.load(folder / "weights.npz") as arrays:
        weights = list(arrays.values())
    return KerasAnswer(weights, folder / "weights.h5", images, np.load(folder / "output.npy"))


@pytest.fixture(scope="session")
def weights_file(keras_answer: KerasAnswer) -> Path:
    return keras_answer.path


@pytest.fixture(scope="session")
def backbone_directory(weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = BackboneConfig(weights=str(weights_file), image_size=SIZE)
    folder = shared_folder(
        tmp_path_factory, "backbone", lambda folder: import_weights(config, str(folder / "Format-Serving"))
    )
    return folder / "Format-Serving"


@pytest.fixture(scope="session")
def features_at(
    raw_examples: Path, transform_directory: Path, backbone_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Makes the features artifact of a cut, once."""

    def at(cut: str) -> Path:
        def write(artifact: Path) -> None:
            training_data.write_features(
                raw_examples, transform_directory, backbone_directory, cut, ["mixed10"], artifact
            )

        return shared_folder(tmp_path_factory, f"features-{cut}", write)

    return at


FROZEN = FineTuneConfig()


def settings(
    fine_tune: FineTuneConfig = FROZEN, steps: int = 20, output: str = "mixed10", **training: object
) -> TrainerConfig:
    values = {"eval_every": 10, "batch_size": 16, "learning_rate": LearningRateConfig((3e-3,)), **training}
    return TrainerConfig(
        BackboneConfig(weights="random", image_size=SIZE, output=output),
        fine_tune,
        HeadConfig(hidden_units=(16,)),
        TrainingConfig(steps=steps, **values),  # type: ignore[arg-type]
    )


@pytest.fixture(scope="session")
def train(
    raw_examples: Path, transform_directory: Path, backbone_directory: Path, features_at: Callable[[str], Path]
) -> Callable[..., TrainingSummary]:
    """Calls run_fn like TFX's Trainer; returns the training summary."""

    def call(config: TrainerConfig, cut: str | None, out: Path) -> TrainingSummary:
        examples = raw_examples if cut is None else features_at(cut)
        run.run_fn(training_data.fn_args(config, examples, transform_directory, backbone_directory, out))
        return SUMMARY.read(out / "run")

    return call


@pytest.fixture(scope="session")
def frozen_run(train: Callable[..., TrainingSummary], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on pooled features: nothing of the base trains. The model takes a megapixel."""
    config = dataclasses.replace(settings(), limits=ImageLimits(max_megapixels=1))
    return shared_folder(tmp_path_factory, "frozen", lambda out: train(config, backbone.POOLED, out))


FAST, SLOW = "conv2d_93|batch_normalization_93", "conv2d_85|batch_normalization_85"
"""The layers that `suffix_run` trains, the second pair at a tenth of the rate."""


@pytest.fixture(scope="session")
def suffix_run(train: Callable[..., TrainingSummary], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on mixed9 features: some layers of the last block train, at two rates; the others are frozen."""
    config = settings(FineTuneConfig(rules=((FAST, 1.0), (SLOW, 0.1), (".*", 0.0))))
    return shared_folder(tmp_path_factory, "suffix", lambda out: train(config, "mixed9", out))


@pytest.fixture
def packed(backbone_directory: Path, tmp_path: Path) -> Callable[..., Path]:
    """Puts an exported model next to the pre-trained weights, as the component does."""

    def pack(model: Path, classes: tuple[str, ...] = training_data.CLASSES) -> Path:
        target = tmp_path / "base"
        shutil.copytree(backbone_directory, target)
        packed = Path(packed_model(str(target)))
        for part in ("variables", "assets.extra"):
            shutil.copytree(model / "Format-Serving" / part, packed / part)
        (packed / "assets").mkdir()
        (packed / "assets" / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
        PACKED.write(target, PackedModel("/models/7", 7))
        return target

    return pack
