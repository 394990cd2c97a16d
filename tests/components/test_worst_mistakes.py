"""WorstMistakes: thumbnails of the worst mistakes, what the network saw, and where it looked."""

from pathlib import Path

import numpy as np
from PIL import Image
from tfx.types.standard_artifacts import Examples, InferenceResult

from components import worst_mistakes
from core.artifacts.gallery import GALLERY_FILE, GalleryImage
from core.artifacts.predictions import PREDICTIONS_FILE, Prediction
from tests.components.test_predictor import labelled, model
from tests.model_factory import write_examples


def run(folder: Path, examples: list, predictions: list[Prediction], **parameters: object) -> list[GalleryImage]:
    given, raw, gallery = InferenceResult(), Examples(), InferenceResult()
    given.uri, raw.uri, gallery.uri = (str(folder / name) for name in ("predictions", "examples", "gallery"))
    raw.split_names = '["test"]'
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
    examples = [labelled(0, "blue", 0), labelled(1, "green", 1), labelled(1, "red", 2), labelled(0, "green", 3)]
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


def test_without_mistakes_the_gallery_is_empty(tmp_path: Path) -> None:
    assert run(tmp_path, [labelled(1, "green", 1)], [classified("green", 1, "green", 0.9)]) == []
