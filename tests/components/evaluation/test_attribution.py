"""Attribution finds the part of an image that decides the class, in the model that is served."""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.evaluation import attribution
from components.serving.served_model import ServedModel
from core import inception_v3, signatures
from core.artifacts import backbone as artifact
from core.artifacts.exported_model import class_names
from tests.model_factory import save_model
from tests.trainer import training_data
from tests.trainer.conftest import settings
from trainer import run
from trainer.training import checkpoints

COLORS = ("red", "green", "blue")


def picture(label: str, seed: int, side: int) -> tuple[bytes, tuple[slice, slice]]:
    """Dark noise, and somewhere on it a square of a quarter of the side, whose color is the class; and where it is."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 120, (side, side, 3))
    square = side // 4
    y, x = random.integers(0, side - square + 1, 2)
    place = slice(y, y + square), slice(x, x + square)
    pixels[place] = random.integers(0, 120, (square, square, 3))
    pixels[(*place, COLORS.index(label))] += 130
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue(), place


def color_network(directory: Path, side: int) -> None:
    """Weights with which InceptionV3 hands the three colors on from map to map, disturbed by random ones."""
    random = np.random.default_rng(0)
    arrays = {}
    colors = {inception_v3.INPUT: np.arange(3)}  # of each layer's channels
    for layer in inception_v3.layers():
        read = np.concatenate([colors[name] for name in layer.inputs])
        colors[layer.name] = np.arange(layer.channels) % 3 if layer.kind == "Conv2D" else read
        for name, shape in layer.weights:
            value = np.full(shape, float(name == "moving_variance"))
            if name == "kernel":
                height, width = shape[:2]
                same = read[:, None] == colors[layer.name]
                noise = random.normal(size=shape) / np.sqrt(height * width * len(read))
                value = same / same.sum(axis=0) / (height * width) + 0.05 * noise
            arrays[f"InceptionV3/{layer.name}/{name}"] = value.astype(np.float32)
    checkpoints.write(artifact.checkpoint(str(directory)), arrays)
    artifact.RECORD.write(directory, artifact.BackboneRecord("colors", "colors", False, "0", side))


@pytest.fixture(scope="module", params=[75, 299])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The side of the images, and a model that tells the colors of their squares apart."""
    side, folder = request.param, tmp_path_factory.mktemp("colors")
    (folder / "backbone").mkdir()
    color_network(folder / "backbone", side)
    for split, seeds in (("train", range(48)), ("eval", range(48, 60))):
        labeled = [(COLORS[seed % 3], seed) for seed in seeds]
        examples = [training_data.raw_example(picture(label, seed, side)[0], label) for label, seed in labeled]
        training_data.write_split(folder / "raw", split, examples)
    training_data.run_transform(training_data.read_split(folder / "raw", "train"), folder / "transform", side)
    made = folder / "raw", folder / "transform", folder / "backbone"
    training_data.write_features(*made, "pooled", ["mixed10"], folder / "features")
    config = settings(steps=40)
    config = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, image_size=side))
    run.run_fn(training_data.fn_args(config, folder / "features", *made[1:], folder))
    yield side, folder / "Format-Serving"


def test_the_map_of_a_real_network_finds_the_part_that_decides(trained: tuple[int, Path]) -> None:
    side, directory = trained
    labels = [COLORS[seed % 3] for seed in range(30)]
    pictures = [picture(label, 100 + seed, side) for seed, label in enumerate(labels)]
    images, names = [encoded for encoded, _ in pictures], class_names(str(directory))
    with ServedModel(str(directory)) as model:
        assert model.request(signatures.IMAGES, images)["label"].tolist() == [label.encode() for label in labels]

        seen, cells = attribution.ClassActivation(model)(images, [names.index(label) for label in labels])

    peaks, shares = [], []
    for (encoded, place), pixels, of_image in zip(pictures, seen, cells, strict=True):
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(encoded))))
        fine = np.asarray(Image.fromarray(of_image).resize((side, side), Image.Resampling.BICUBIC))
        peak = np.unravel_index(fine.argmax(), fine.shape)
        slack = side / len(of_image) / 2  # half a cell
        peaks.append(all(p.start - slack <= at < p.stop + slack for p, at in zip(place, peak, strict=True)))
        positive = np.maximum(fine, 0)
        shares.append(positive[place].sum() / positive.sum())
    assert np.mean(peaks) >= 0.9
    assert np.mean(shares) > 0.25  # of a sixteenth of the image


def test_the_other_class_is_spoken_for_elsewhere(tmp_path: Path) -> None:
    """A red square on the left, a blue one on the right: what speaks for either speaks against the other."""
    pixels = np.full((8, 8, 3), 60, np.uint8)
    pixels[2:5, 0:3, 0] = pixels[2:5, 5:8, 2] = 250
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    save_model(tmp_path / "model")
    with ServedModel(str(tmp_path / "model")) as model:
        _, (red, blue) = attribution.ClassActivation(model)([buffer.getvalue()] * 2, [0, 2])

    assert red[2:5, 0:3].min() > 0 > red[2:5, 5:8].max()
    assert blue[2:5, 0:3].max() < 0 < blue[2:5, 5:8].min()
    assert red.sum() == pytest.approx(0, abs=1e-5)


def test_a_certain_model_has_a_map_too(tmp_path: Path) -> None:
    """Where the probability is 1 to float32's last digit, its own gradient is 0."""
    pixels = np.full((8, 8, 3), 60, np.uint8)
    pixels[:3, :3, 0] = 250
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    save_model(tmp_path / "model", certainty=1000.0)
    with ServedModel(str(tmp_path / "model")) as model:
        assert model.request(signatures.IMAGES, [buffer.getvalue()])["probability"] == [1.0]
        _, (cells,) = attribution.ClassActivation(model)([buffer.getvalue()], [0])

    assert cells[:3, :3].min() > 1 > cells[3:].max()


def test_the_overlay_tints_what_speaks_for_and_against() -> None:
    gray = np.full((60, 60, 3), 128, np.uint8)
    cells = np.zeros((6, 6), np.float32)
    cells[0, 0], cells[-1, -1] = 0.5, -0.5

    tinted = np.asarray(attribution.overlay(gray, cells)).astype(int)

    assert tinted[2, 2, 0] > 180 and tinted[2, 2, 2] < 80  # orange
    assert tinted[-2, -2, 2] > 180 and tinted[-2, -2, 0] < 100  # blue
    assert (abs(tinted[30, 30] - 128) < 12).all()


def test_weak_attributions_stay_gray() -> None:
    gray = np.full((60, 60, 3), 128, np.uint8)
    cells = np.random.default_rng(0).uniform(-0.01, 0.01, (6, 6)).astype(np.float32)
    assert (abs(np.asarray(attribution.overlay(gray, cells)).astype(int) - 128) < 20).all()
