"""WorstMistakes: the test images whose true class got the lowest probability, where the model looked, and the training
images that are most like them to it."""

import dataclasses
import heapq
import io
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from PIL import Image
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, InferenceResult, Model

from components.evaluation import attribution
from components.features.neighbors import nearest, read_pooled
from components.ingestion.image_reading import upright
from components.serving.served_model import ServedModel
from core import examples as raw
from core import progress, tfrecords
from core.artifacts import exported_model
from core.artifacts.features import FEATURES_FILE
from core.artifacts.gallery import GALLERY_FILE, Gallery, GalleryImage, GalleryNeighbor
from core.artifacts.model_limits import model_limits
from core.artifacts.predictions import PREDICTIONS_FILE, SPLIT, Prediction
from core.image_limits import ImageLimits

_THUMBNAIL = 224
_NEIGHBORS, _NEIGHBOR_THUMBNAIL = 3, 112
_JPEG_QUALITY = 82
_TRAIN = "train"


@component
def WorstMistakes(  # noqa: N802 - a component is a class to its users
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    predictions: InputArtifact[InferenceResult],
    gallery: OutputArtifact[InferenceResult],
    features: InputArtifact[Examples] = None,
    worst: Parameter[int] = 12,
    code: Parameter[str] = "",
) -> None:
    """Shows the `worst` mistakes, which go through the network once more in one batch.

    `core.artifacts.gallery` describes the output, which has a TFX type, since Vertex AI knows no custom types.
    `features` are FeatureExtractor's; without them, no similar training images are shown. `code` is a hash of this
    component's source, for TFX's cache.
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
            written = {what: _write(gallery.uri, f"{number:02d}_{what}", shows) for what, shows in thumbnails.items()}
            images.append(GalleryImage(prediction, **written, neighbors=[]))
        if features is not None:
            with_neighbors = zip(images, _neighbors(gallery.uri, examples, features, shown, limits), strict=True)
            images = [dataclasses.replace(image, neighbors=found) for image, found in with_neighbors]
        progress.report(len(shown), len(shown), "images")
    GALLERY_FILE.write(gallery.uri, Gallery(images))


def _encoded_images(pattern: str, wanted: Sequence[Prediction]) -> dict[tuple[str, str], bytes]:
    """The image files of these predictions; no other images are held in memory."""
    keys = {(p.path, p.sha256) for p in wanted}
    found = {}
    for record in tfrecords.read(pattern):
        values = tfrecords.values(record)
        key = (tfrecords.text(values.get(raw.PATH, b"")), tfrecords.text(values.get(raw.SHA256, b"")))
        if key in keys:
            found[key] = values[raw.IMAGE]
            if len(found) == len(keys):
                break
    return found


def _neighbors(
    directory: str, examples: Examples, features: Examples, shown: Sequence[Prediction], limits: ImageLimits
) -> Iterator[list[GalleryNeighbor]]:
    """The neighbors of each prediction, with thumbnails in `directory`; none if the image's features are not stored."""
    described = FEATURES_FILE.read(features.uri)
    test, train = (f"{artifact_utils.get_split_uri([features], split)}/*" for split in (SPLIT, _TRAIN))
    wanted = {prediction.sha256 for prediction in shown}
    queries = {sha256: found for sha256, found in read_pooled([test], described.format(SPLIT)) if sha256 in wanted}
    found = {}
    if queries:
        of_queries = nearest([train], described.format(_TRAIN), np.stack(list(queries.values())), _NEIGHBORS)
        found = dict(zip(queries, of_queries, strict=True))
    images = _images(examples, {neighbor.sha256 for neighbors in found.values() for neighbor in neighbors})
    files: dict[str, str] = {}
    for prediction in shown:
        listed = []
        for neighbor in found.get(prediction.sha256, []):
            if neighbor.sha256 not in images:
                continue
            path, label, encoded = images[neighbor.sha256]
            if neighbor.sha256 not in files:
                with Image.open(io.BytesIO(encoded)) as image:
                    thumbnail = upright(image, limits)
                thumbnail.thumbnail((_NEIGHBOR_THUMBNAIL, _NEIGHBOR_THUMBNAIL))
                files[neighbor.sha256] = _write(directory, f"neighbor_{len(files):02d}", thumbnail)
            listed.append(GalleryNeighbor(path, label, round(neighbor.similarity, 4), files[neighbor.sha256]))
        yield listed


def _images(examples: Examples, wanted: Collection[str]) -> dict[str, tuple[str, str, bytes]]:
    """Path, label and file of the training images with these hashes; the first of several copies."""
    found: dict[str, tuple[str, str, bytes]] = {}
    for record in tfrecords.read(f"{artifact_utils.get_split_uri([examples], _TRAIN)}/*") if wanted else ():
        values = tfrecords.values(record)
        sha256, path, label = (tfrecords.text(values.get(n, b"")) for n in (raw.SHA256, raw.PATH, raw.LABEL))
        if sha256 in wanted:
            found.setdefault(sha256, (path, label, values[raw.IMAGE]))
            if len(found) == len(wanted):
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


def _write(directory: str, name: str, thumbnail: Image.Image) -> str:
    """Writes the file and returns its name."""
    with fileio.open(f"{directory}/{name}.jpg", "wb") as file:
        file.write(_encoded(thumbnail, "JPEG"))
    return f"{name}.jpg"
