"""WorstMistakes: the test images whose true class got the lowest probability, and where the model looked."""

import heapq
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, InferenceResult, Model

from components.evaluation import attribution
from components.ingestion.image_reading import upright
from components.serving.served_model import ServedModel
from core import examples as features
from core import progress, tfrecords
from core.artifacts import exported_model
from core.artifacts.gallery import GALLERY_FILE, Gallery, GalleryImage
from core.artifacts.model_limits import model_limits
from core.artifacts.predictions import PREDICTIONS_FILE, SPLIT, Prediction
from core.image_limits import ImageLimits

_THUMBNAIL = 224
_JPEG_QUALITY = 82


@component
def WorstMistakes(  # noqa: N802 - a component is a class to its users
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    predictions: InputArtifact[InferenceResult],
    gallery: OutputArtifact[InferenceResult],
    worst: Parameter[int] = 12,
    code: Parameter[str] = "",
) -> None:
    """Shows the `worst` mistakes, which go through the network once more, all at a time.

    `core.artifacts.gallery` describes the output, whose type is TFX's, since Vertex AI knows none of ours. `code` is a
    hash of this component's source, so that TFX's cache notices when it changes.
    """
    del code
    fileio.makedirs(gallery.uri)
    wrong = (p for p in PREDICTIONS_FILE.read(predictions.uri) if p.predicted and not p.right)
    shown = heapq.nsmallest(worst, wrong, key=lambda p: (p.label_probability, p.path, p.sha256))
    encoded = _encoded_images(f"{artifact_utils.get_split_uri([examples], SPLIT)}/*", shown) if shown else {}
    images = []
    if shown:
        directory = exported_model.serving_dir(model.uri)
        limits = model_limits(directory)
        classes = exported_model.class_names(directory)
        files = [encoded[prediction.path, prediction.sha256] for prediction in shown]
        with ServedModel(directory) as served:
            explain = attribution.ClassActivation(served)
            seen, cells = explain(files, [classes.index(prediction.predicted) for prediction in shown])
        for number, prediction in enumerate(shown):
            thumbnails = _thumbnails(files[number], seen[number], cells[number], limits)
            images.append(GalleryImage(prediction, **_write(gallery.uri, number, thumbnails)))
        progress.report(len(shown), len(shown), "images")
    GALLERY_FILE.write(gallery.uri, Gallery(images))


def _encoded_images(pattern: str, wanted: Sequence[Prediction]) -> dict[tuple[str, str], bytes]:
    """The image files of these predictions; of the split only these are held."""
    keys = {(p.path, p.sha256) for p in wanted}
    found = {}
    for record in tfrecords.read(pattern):
        values = tfrecords.values(record)
        key = (tfrecords.text(values.get(features.PATH, b"")), tfrecords.text(values.get(features.SHA256, b"")))
        if key in keys:
            found[key] = values[features.IMAGE]
            if len(found) == len(keys):
                break
    return found


def _thumbnails(encoded: bytes, seen: np.ndarray, cells: np.ndarray, limits: ImageLimits) -> dict[str, Image.Image]:
    """Thumbnails of one image, by what they show."""
    with Image.open(io.BytesIO(encoded)) as image:
        thumbnails = {"original": upright(image, limits)}
    thumbnails["seen"] = Image.fromarray(seen)
    thumbnails["attribution"] = attribution.overlay(seen, cells)
    for thumbnail in thumbnails.values():
        thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return thumbnails


def _encoded(image: Image.Image, kind: str) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, quality=_JPEG_QUALITY)
    return target.getvalue()


def _write(directory: str, number: int, thumbnails: dict[str, Image.Image]) -> dict[str, str]:
    names = {what: f"{number:02d}_{what}.jpg" for what in thumbnails}
    for what, thumbnail in thumbnails.items():
        with fileio.open(f"{directory}/{names[what]}", "wb") as file:
            file.write(_encoded(thumbnail, "JPEG"))
    return names
