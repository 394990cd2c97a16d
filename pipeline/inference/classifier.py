"""Image files through an exported model, a batch at a time: what `predict`, `batch-predict` and `client` share.

A file is read as at ingestion (same formats, same orientation, same limits), so the model sees what it was trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from components.ingestion.image_folder import is_remote, printable, read_anywhere
from components.ingestion.image_reading import RejectedError, for_model
from components.serving.model_client import RemoteModel
from components.serving.served_model import ServedModel, errors_of, first_line
from core import signatures
from core.errors import InputError
from core.image_limits import ImageLimits
from pipeline.runs import push_directory

BATCH_SIZE = 32
"""Images sent to the model at a time."""

BATCH_BYTES = 64 * 2**20
"""Encoded bytes in a batch, above which it is sent with fewer images."""


class ImageFile(NamedTuple):
    """A file that was read, or why it could not be.

    Attributes:
        path: as records show it.
        encoded: an image as the model takes it; empty if there is an error.
        error: in words; empty if there is none.
    """

    path: str
    encoded: bytes
    error: str = ""


def read(location: str, limits: ImageLimits, shown: str | None = None) -> ImageFile:
    """Reads one file, local or any that Beam reads, as ingestion does: what the model cannot decode becomes a PNG.

    `shown` is its path in records, if another one.
    """
    path = printable(shown or location)
    try:
        return ImageFile(path, for_model(read_anywhere(location, limits), limits))
    except RejectedError as error:
        return ImageFile(path, b"", error.reason)


def batches(files: Iterable[ImageFile], size: int = BATCH_SIZE) -> Iterator[list[ImageFile]]:
    """Groups files, in order, by at most `size` files and, for the memory's sake, `BATCH_BYTES`."""
    batch: list[ImageFile] = []
    held = 0
    for file in files:
        if batch and (len(batch) == size or held + len(file.encoded) > BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(file)
        held += len(file.encoded)
    if batch:
        yield batch


def find_model(directory: str) -> str:
    """The folder of a SavedModel, local or remote: this one, or the latest version if it is a push directory.

    Raises:
        InputError: there is none.
    """
    if not is_remote(directory) and not (Path(directory) / "saved_model.pb").is_file():
        versions = push_directory.versions(Path(directory))
        directory = str(versions[-1]) if versions else directory
    if not tf.io.gfile.exists(f"{directory}/saved_model.pb"):
        raise InputError(
            f"there is no model in {directory}: no saved_model.pb; name a model's folder or run the pipeline"
        )
    return directory


def load(directory: str) -> ServedModel:
    """Loads the model in a folder that `find_model` returned.

    Raises:
        InputError: the model's files are damaged, or it does not take images.
    """
    try:
        model = ServedModel(directory)
    except (OSError, tf.errors.OpError) as error:
        raise InputError(
            f"the model in {directory} cannot be loaded, its files are damaged: {first_line(error)}"
        ) from error
    if signatures.IMAGES not in model.signatures:
        model.close()
        raise InputError(
            f"the model in {directory} has no signature {signatures.IMAGES}; this pipeline did not export it"
        )
    return model


def classify(model: ServedModel | RemoteModel, files: Sequence[ImageFile], top_k: int) -> list[dict[str, Any]]:
    """A record for each file, in order.

    Returns:
        `path`, `class`, `probability` and `top_k`, a list of `class` and `probability`, most probable first and at most
        as many as there are classes; or `path` and `error`, where the file could not be read or the model refuses it.
    """
    predictions = _predict(model, [file.encoded for file in files if not file.error], top_k)
    records: list[dict[str, Any]] = []
    for file in files:
        prediction = file.error or next(predictions)
        if isinstance(prediction, str):
            records.append({"path": file.path, "error": prediction})
        else:
            records.append({"path": file.path, **prediction[0], "top_k": prediction})
    return records


def _predict(
    model: ServedModel | RemoteModel, images: Sequence[bytes], top_k: int
) -> Iterator[list[dict[str, Any]] | str]:
    """For each image its `top_k` classes, most probable first, or why it got none."""
    if not images:
        return
    response = model.request(signatures.IMAGES, images)
    best = np.argsort(-response["probabilities"], axis=1, kind="stable")[:, :top_k]
    for error, order, names, probabilities in zip(
        errors_of(response), best, response["classes"], response["probabilities"], strict=True
    ):
        classes = [{"class": names[i].decode(), "probability": round(float(probabilities[i]), 6)} for i in order]
        yield f"the model refuses it: {error}" if error else classes


def check_positive(**numbers: int) -> None:
    """Raises InputError for a number that is less than 1, by its name."""
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"{name} is {number}; it must be at least 1")
