"""Image files through an exported model, a batch at a time: what `predict` and `batch-predict` share.

A file is read as at ingestion (same formats, same orientation, same limits), so the model sees what it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from components.ingestion.image_reading import RejectedError, for_model
from components.serving.served_model import ServedModel, errors_of, first_line
from core import signatures
from core.errors import InputError
from core.image_limits import ImageLimits
from pipeline.runs import push_directory

BATCH_SIZE = 32
"""Images sent to the model at a time."""

_BATCH_BYTES = 64 * 2**20
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


def read(path: str, load: Callable[[], bytes], limits: ImageLimits) -> ImageFile:
    """Reads one file as ingestion does, and converts it likewise: what the model cannot decode becomes a PNG.

    Args:
        path: as records show it.
        load: returns the file's bytes or raises `RejectedError`.
        limits: of the model that it is for.
    """
    try:
        return ImageFile(path, for_model(load(), limits))
    except RejectedError as error:
        return ImageFile(path, b"", error.reason)


def batches(files: Iterable[ImageFile], size: int = BATCH_SIZE) -> Iterator[list[ImageFile]]:
    """Groups files, in order, by at most `size` files and, for the memory's sake, 64 MB."""
    batch: list[ImageFile] = []
    held = 0
    for file in files:
        if batch and (len(batch) == size or held + len(file.encoded) > _BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(file)
        held += len(file.encoded)
    if batch:
        yield batch


def find_model(directory: str) -> str:
    """The folder of a SavedModel: this one, or the latest version if it is a push directory.

    Args:
        directory: local, or of any file system that TensorFlow reads.

    Raises:
        InputError: there is none.
    """
    if "://" not in directory and not (Path(directory) / "saved_model.pb").is_file():
        versions = push_directory.versions(Path(directory))
        directory = str(versions[-1]) if versions else directory
    if not tf.io.gfile.exists(f"{directory}/saved_model.pb"):
        raise InputError(
            f"there is no model in {directory}: no saved_model.pb; name a model's folder or run the pipeline"
        )
    return directory


class Classifier:
    """A loaded model that answers with records; a context manager that frees it."""

    def __init__(self, directory: str, top_k: int) -> None:
        """Loads the model.

        Args:
            directory: of a SavedModel, as `find_model` returns it.
            top_k: how many classes a record lists, at most as many as there are.

        Raises:
            InputError: the model's files are damaged, it does not take images, or `top_k` is less than 1.
        """
        if top_k < 1:
            raise InputError(f"top_k is {top_k}; it must be at least 1")
        self._top_k = top_k
        try:
            self._model = ServedModel(directory)
        except (OSError, tf.errors.OpError) as error:
            raise InputError(
                f"the model in {directory} cannot be loaded, its files are damaged: {first_line(error)}"
            ) from error
        if signatures.IMAGES not in self._model.signatures:
            self._model.close()
            raise InputError(
                f"the model in {directory} has no signature {signatures.IMAGES}; it is no model of this pipeline"
            )

    def __enter__(self) -> Classifier:
        return self

    def __exit__(self, *exc: object) -> None:
        self._model.close()

    def classify(self, files: Sequence[ImageFile]) -> list[dict[str, Any]]:
        """A record for each file, in order.

        Returns:
            `path`, `class`, `probability` and `top_k`, a list of `class` and `probability`, most probable first;
            or `path` and `error`, where the file could not be read or the model refuses it.
        """
        answers = self._ask([file.encoded for file in files if not file.error])
        records: list[dict[str, Any]] = []
        for file in files:
            answer = file.error or next(answers)
            if isinstance(answer, str):
                records.append({"path": file.path, "error": answer})
            else:
                records.append({"path": file.path, **answer[0], "top_k": answer})
        return records

    def _ask(self, images: Sequence[bytes]) -> Iterator[list[dict[str, Any]] | str]:
        """For each image its `top_k` classes, most probable first, or why it got none."""
        if not images:
            return
        answer = self._model.request(signatures.IMAGES, images)
        best = np.argsort(-answer["probabilities"], axis=1, kind="stable")[:, : self._top_k]
        for error, order, names, probabilities in zip(
            errors_of(answer), best, answer["classes"], answer["probabilities"], strict=True
        ):
            classes = [{"class": names[i].decode(), "probability": round(float(probabilities[i]), 6)} for i in order]
            yield f"the model refuses it: {error}" if error else classes
