"""WorstMistakes: the test images whose true class got the lowest probability, and where the model looked."""

import heapq
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, InferenceResult, Model
from tfx.utils import path_utils

from components.evaluation import occlusion
from components.ingestion.image_reading import upright
from components.predictor import Predictions
from components.serving.served_model import ServedModel
from core import progress, signatures, tfrecords
from core.artifacts.predictions import GALLERY_FILE, PREDICTIONS_FILE, Prediction, read_predictions
from core.examples import IMAGE, PATH, SHA256
from trainer.images import decoding

_ATTRIBUTED = 6  # of the gallery's images: each costs `occlusion.PASSES` forward passes
_THUMBNAIL = 224
_JPEG_QUALITY = 82


Gallery = InferenceResult
"""Holds `GALLERY_FILE` and its pictures. TFX's type: Vertex AI knows none of ours."""


@component
def WorstMistakes(  # noqa: N802 - a component is a class to its users
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    predictions: InputArtifact[Predictions],
    gallery: OutputArtifact[Gallery],
    image_size: Parameter[int],
    split: Parameter[str] = "test",
    worst: Parameter[int] = 12,
    code: Parameter[str] = "",
) -> None:
    """Shows the worst mistakes.

    Args:
        model: the exported model.
        examples: raw examples.
        predictions: the model's answers for the split.
        gallery: gets `GALLERY_FILE` and the pictures as JPEG files.
        image_size: side of what the network sees, in pixels.
        split: the split that was classified.
        worst: how many mistakes are shown.
        code: hash of this component's source, so that TFX's cache notices when it changes.
    """
    del code
    fileio.makedirs(gallery.uri)
    with fileio.open(f"{predictions.uri}/{PREDICTIONS_FILE}") as file:
        wrong = (prediction for prediction in read_predictions(file) if prediction.predicted and not prediction.right)
        shown = heapq.nsmallest(worst, wrong, key=lambda p: (p.label_probability, p.path, p.sha256))
    images = _images(f"{artifact_utils.get_split_uri([examples], split)}/*", shown) if shown else {}
    entries = []
    if shown:
        with ServedModel(path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))) as served:
            for number, prediction in enumerate(shown):
                encoded = images[prediction.path, prediction.sha256]
                pictures = _pictures(served, prediction, encoded, image_size, attribute=number < _ATTRIBUTED)
                entries.append(json.loads(prediction.to_json()) | _write_pictures(gallery.uri, number, pictures))
                progress.report(number + 1, len(shown), "pictures")
    with fileio.open(f"{gallery.uri}/{GALLERY_FILE}", "w") as file:
        file.write(json.dumps(entries, indent=1) + "\n")


def _images(pattern: str, wanted: Sequence[Prediction]) -> dict[tuple[str, str], bytes]:
    """The encoded images of these predictions; of the split only these are held."""
    missing = {(p.path, p.sha256) for p in wanted}
    found = {}
    for record in tfrecords.read(pattern):
        features = tfrecords.values(record)
        key = (tfrecords.text(features.get(PATH, b"")), tfrecords.text(features.get(SHA256, b"")))
        if key in missing:
            found[key] = features[IMAGE]
            missing.remove(key)
            if not missing:
                break
    return found


def _pictures(
    model: ServedModel, prediction: Prediction, encoded: bytes, image_size: int, attribute: bool
) -> dict[str, Image.Image]:
    """Thumbnails of one image, by what they show."""
    with Image.open(io.BytesIO(encoded)) as image:
        pictures = {"original": upright(image)}
    scaled = decoding.decode(tf.constant([encoded]), image_size).numpy()[0]
    seen = ((scaled + 1) * 127.5).round().astype(np.uint8)
    pictures["seen"] = Image.fromarray(seen)
    if attribute:
        cells = occlusion.sensitivity(seen, _probability_of(model, prediction.predicted))
        pictures["attribution"] = occlusion.overlay(seen, cells)
    for picture in pictures.values():
        picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return pictures


def _probability_of(model: ServedModel, name: str) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """The probability of one class for images of the network's own size, which preprocessing leaves as they are."""

    def probability(images: Sequence[np.ndarray]) -> np.ndarray:
        answer = model.request(signatures.IMAGES, [_encoded(Image.fromarray(image), "BMP") for image in images])
        return np.nan_to_num(answer["probabilities"][answer["classes"] == name.encode()])

    return probability


def _encoded(image: Image.Image, kind: str) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, quality=_JPEG_QUALITY)
    return target.getvalue()


def _write_pictures(directory: str, number: int, pictures: dict[str, Image.Image]) -> dict[str, Any]:
    names = {}
    for what, picture in pictures.items():
        names[what] = f"{number:02d}_{what}.jpg"
        with fileio.open(f"{directory}/{names[what]}", "wb") as file:
            file.write(_encoded(picture, "JPEG"))
    return names
