"""TestPredictions: what the exported model says of every test image, and pictures of its worst mistakes.

The Evaluator keeps sums; a report needs each image's answer: for intervals, calibration, confusions, and to show the
pictures behind a failure.
"""

import heapq
import io
import json
from collections.abc import Callable, Iterator, Sequence
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

from components import occlusion
from components.image_reading import in_eight_bits
from components.prediction import GALLERY_FILE, PREDICTIONS_FILE, Prediction
from components.served_model import ServedModel, errors_of
from trainer import preprocessing, progress, records, signatures

_ATTRIBUTED = 6  # of the gallery's images: each costs `occlusion.PASSES` forward passes
_THUMBNAIL = 224
_JPEG_QUALITY = 82
_SLICE_PREFIX = "slice/"


Predictions = InferenceResult
"""Holds `PREDICTIONS_FILE`, `GALLERY_FILE` and the gallery's pictures. TFX's type: Vertex AI knows none of ours."""


@component
def TestPredictions(  # noqa: N802 - a component is a class to its users
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    predictions: OutputArtifact[Predictions],
    image_size: Parameter[int],
    split: Parameter[str] = "test",
    batch_size: Parameter[int] = 32,
    worst: Parameter[int] = 12,
    code: Parameter[str] = "",
) -> None:
    """Classifies the split once, in batches, through the signature that serves.

    Args:
        model: the exported model.
        examples: raw examples.
        predictions: gets `PREDICTIONS_FILE`, `GALLERY_FILE` and the gallery's pictures as JPEG files.
        image_size: side of what the network sees, in pixels, for the gallery.
        split: the split to classify.
        batch_size: images sent to the model at a time; bounds the memory.
        worst: how many mistakes the gallery shows: those whose true class got the lowest probability.
        code: hash of this component's source, so that TFX's cache notices when it changes.
    """
    del code
    directory = path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
    pattern = f"{artifact_utils.get_split_uri([examples], split)}/*"
    total = examples.get_int_custom_property(f"examples_{split}") or None
    fileio.makedirs(predictions.uri)
    gallery = _Worst(worst)
    done = mistakes = 0
    with ServedModel(directory) as served, fileio.open(f"{predictions.uri}/{PREDICTIONS_FILE}", "w") as file:
        file.write("")  # an empty split leaves an empty file
        for batch in _batches(records.read(pattern), batch_size):
            for prediction, record in zip(_classify(served, batch), batch, strict=True):
                file.write(json.dumps(prediction._asdict()) + "\n")  # ASCII: fileio writes in the locale's encoding
                mistakes += not prediction.right
                gallery.offer(prediction, record)
            done += len(batch)
            progress.report(done, total, "images")
        entries = []
        for number, (prediction, encoded) in enumerate(gallery.sorted()):
            pictures = _pictures(served, prediction, encoded, image_size, attribute=number < _ATTRIBUTED)
            entries.append(prediction._asdict() | _write_pictures(predictions.uri, number, pictures))
            progress.report(done, total, "images", f"picture {number + 1} of the worst mistakes")
    with fileio.open(f"{predictions.uri}/{GALLERY_FILE}", "w") as file:
        file.write(json.dumps(entries, indent=1) + "\n")
    predictions.set_int_custom_property("examples", done)
    predictions.set_int_custom_property("mistakes", mistakes)
    progress.report(done, total, "images", f"{mistakes} mistakes")


class _Worst:
    """Keeps the mistakes with the lowest probability of the true class, and the images of these alone."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[float, str, int, Prediction, bytes]] = []
        self._offered = 0

    def offer(self, prediction: Prediction, record: bytes) -> None:
        self._offered += 1
        if prediction.right or not prediction.predicted or not self._size:  # without an answer there is no picture
            return
        # By path where equal, so that the order of the shards does not matter; the number keeps the rest incomparable.
        key = (-prediction.label_probability, prediction.path, self._offered)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, (*key, prediction, record))
        elif key > self._heap[0][:3]:
            heapq.heapreplace(self._heap, (*key, prediction, record))

    def sorted(self) -> list[tuple[Prediction, bytes]]:
        """Worst first: predictions and encoded images."""
        found = sorted(self._heap, key=lambda entry: entry[:3], reverse=True)
        return [(prediction, records.values(record)[signatures.IMAGE_FEATURE]) for *_, prediction, record in found]


def _batches(stream: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for record in stream:
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _classify(model: ServedModel, batch: Sequence[bytes]) -> Iterator[Prediction]:
    answer = model.request(signatures.EXAMPLES, batch)
    finite = np.nan_to_num(answer["probabilities"])  # a model that answers NaN is for ServingCheck to refuse
    answers = zip(batch, finite, answer["classes"], errors_of(answer), strict=True)
    for record, probabilities, classes, error in answers:
        texts = {
            name: _text(value) for name, value in records.values(record).items() if name != signatures.IMAGE_FEATURE
        }
        by_class = {_text(name): float(p) for name, p in zip(classes, probabilities, strict=True)}
        label = texts.get("label", "")
        predicted = "" if error else max(by_class, key=lambda name: by_class[name])
        yield Prediction(
            path=texts.get("image/path", ""),
            sha256=texts.get("image/sha256", ""),
            label=label,
            predicted=predicted,
            probability=round(by_class.get(predicted, 0.0), 6),
            label_probability=round(by_class.get(label, 0.0), 6),
            slices={n.removeprefix(_SLICE_PREFIX): v for n, v in sorted(texts.items()) if n.startswith(_SLICE_PREFIX)},
        )


def _pictures(
    model: ServedModel, prediction: Prediction, encoded: bytes, image_size: int, attribute: bool
) -> dict[str, Image.Image]:
    """Thumbnails of one image, by what they show."""
    with Image.open(io.BytesIO(encoded)) as image:
        pictures = {"original": in_eight_bits(image)}
    scaled = preprocessing.decode(tf.constant([encoded]), image_size).numpy()[0]
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
