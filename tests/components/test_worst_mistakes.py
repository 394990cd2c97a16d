"""WorstMistakes: thumbnails of the worst mistakes, what the network saw, and where it looked."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tfx.types.standard_artifacts import Examples, InferenceResult

from components import worst_mistakes
from core.artifacts.features import FEATURES_FILE, UNVARIED, Features, SplitFeatures
from core.artifacts.gallery import GALLERY_FILE, GalleryImage
from core.artifacts.predictions import PREDICTIONS_FILE, Prediction
from tests.components.test_predictor import labeled, model
from tests.model_factory import write_examples
from tests.trainer import training_data


def run(folder: Path, examples: list, predictions: list[Prediction], **parameters: object) -> list[GalleryImage]:
    given, raw, gallery = InferenceResult(), Examples(), InferenceResult()
    given.uri, raw.uri, gallery.uri = (str(folder / name) for name in ("predictions", "examples", "gallery"))
    raw.split_names = '["train", "test"]'
    (folder / "predictions").mkdir()
    PREDICTIONS_FILE.write(folder / "predictions", predictions)
    write_examples(folder / "examples", "test", examples)
    worst_mistakes.WorstMistakes.test_call(
        model=model(folder, "model"), examples=raw, predictions=given, gallery=gallery, **parameters
    )
    return GALLERY_FILE.read(folder / "gallery").images


def classified(label: str, number: int, predicted: str, label_probability: float) -> Prediction:
    return Prediction(predicted, 0.9, label_probability, 2, f"{label}/{number:02d}.jpg", "ab", label, {})


def test_the_worst_come_first_with_what_the_network_saw(tmp_path: Path) -> None:
    examples = [labeled(0, "blue", 0), labeled(1, "green", 1), labeled(1, "red", 2), labeled(0, "green", 3)]
    predictions = [
        classified("blue", 0, "red", 0.1),
        classified("green", 1, "green", 0.9),
        classified("red", 2, "green", 0.2),
        classified("green", 3, "red", 0.3),
    ]

    gallery = run(tmp_path, examples, predictions, worst=2)

    assert [image.prediction for image in gallery] == [predictions[0], predictions[2]]
    for image in gallery:
        for name, side in ((image.original, 24), (image.seen, 8), (image.attribution, 8)):
            with Image.open(tmp_path / "gallery" / name) as thumbnail:
                assert thumbnail.size == (side, side) and thumbnail.format == "JPEG"
    with Image.open(tmp_path / "gallery" / gallery[0].seen) as seen:
        assert np.asarray(seen).reshape(-1, 3).mean(axis=0).argmax() == 0  # the image labeled blue is red


def test_the_training_images_that_look_like_a_mistake_stand_beside_it(tmp_path: Path) -> None:
    """By their features, which have only an angle here."""
    (tmp_path / "examples").mkdir()
    train = [labeled(0, "red", 10, name="first"), labeled(0, "blue", 11), labeled(2, "blue", 12)]
    for number, image in enumerate(train):
        image.features.feature["image/sha256"].bytes_list.value[:] = [f"train {number}".encode()]
    write_examples(tmp_path / "examples", "train", train)
    features = Examples()
    features.uri = str(tmp_path / "features")
    features.split_names = '["train", "test"]'
    splits = {"train": [b"train 0", b"train 1", b"train 2"], "test": [b"ab"]}
    angles = {b"ab": 0.0, b"train 0": 0.3, b"train 1": 0.1, b"train 2": 1.2}
    for split, hashes in splits.items():
        records = []
        for sha256 in hashes:
            vector = np.array([np.cos(angles[sha256]), np.sin(angles[sha256])], np.float32)
            record = tf.train.Example()
            record.features.feature["features"].bytes_list.value.append(vector.tobytes())
            record.features.feature["image/sha256"].bytes_list.value.append(sha256)
            records.append(record.SerializeToString())
        training_data.write_split(tmp_path / "features", split, records)
    described = {split: SplitFeatures(UNVARIED, "float32", bfloat16=False) for split in splits}
    FEATURES_FILE.write(features.uri, Features("pooled", ("mixed10",), (2,), 8, "0", "", None, described))

    (image,) = run(tmp_path, [labeled(0, "blue", 0)], [classified("blue", 0, "red", 0.1)], features=features, worst=2)

    assert [(found.path, found.label) for found in image.neighbors] == [
        ("blue/11.jpg", "blue"),
        ("red/10.jpg", "red"),
        ("blue/12.jpg", "blue"),
    ]
    assert [found.similarity for found in image.neighbors] == pytest.approx(np.cos([0.1, 0.3, 1.2]), abs=1e-4)
    for found, color in zip(image.neighbors, (0, 0, 2), strict=True):
        with Image.open(tmp_path / "gallery" / found.file) as thumbnail:
            assert np.asarray(thumbnail).reshape(-1, 3).mean(axis=0).argmax() == color


def test_without_mistakes_the_gallery_is_empty(tmp_path: Path) -> None:
    assert run(tmp_path, [labeled(1, "green", 1)], [classified("green", 1, "green", 0.9)]) == []
