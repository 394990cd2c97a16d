"""Classes of image files, from an exported model: a record per file, in the order given, whatever is wrong with some.

A file is read as at ingestion (same formats, same orientation, same limits), so the model sees what it was trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from components.image_folder import METADATA_NAME, printable, read_file
from components.image_reading import RejectedError, read_image
from components.served_model import IMAGES_SIGNATURE, ServedModel, first_line
from pipeline import push_directory
from trainer import progress
from trainer.errors import InputError


def predict(
    model_dir: str | Path, paths: Sequence[str | Path], top_k: int = 3, batch_size: int = 32
) -> Iterator[dict[str, Any]]:
    """Classifies image files; loads the model once.

    Args:
        model_dir: a SavedModel's folder, or a push directory, whose latest version is taken.
        paths: image files, and folders, of which every file is taken (hidden ones and metadata.csv are not).
        top_k: how many classes to list, at most as many as there are.
        batch_size: images sent to the model at a time.

    Yields:
        `path`, `class`, `probability` and `top_k`, a list of `class` and `probability`, most probable first;
        or `path` and `error`, in words, where a file cannot be read as an image.

    Raises:
        InputError: there is no model that answers images, or `top_k` or `batch_size` is less than 1.
    """
    for name, value in (("top_k", top_k), ("batch_size", batch_size)):
        if value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1")
    with _load(Path(model_dir)) as model:
        files = list(_expand(Path(path) for path in paths))
        for start in range(0, len(files), batch_size):
            yield from _classify(model, files[start : start + batch_size], top_k)
            progress.report(min(start + batch_size, len(files)), len(files), "images")


def _load(directory: Path) -> ServedModel:
    if not (directory / "saved_model.pb").is_file() and push_directory.versions(directory):
        directory = push_directory.latest(directory)
    if not (directory / "saved_model.pb").is_file():
        raise InputError(
            f"there is no model in {directory}: no saved_model.pb; name a model's folder or run the pipeline"
        )
    try:
        model = ServedModel(str(directory))
    except (OSError, tf.errors.OpError) as error:
        raise InputError(
            f"the model in {directory} cannot be loaded, its files are damaged: {first_line(error)}"
        ) from error
    if IMAGES_SIGNATURE not in model.signatures:
        model.close()
        raise InputError(
            f"the model in {directory} has no signature {IMAGES_SIGNATURE}; it is no model of this pipeline"
        )
    return model


def _expand(paths: Iterable[Path]) -> Iterator[Path]:
    """Folders as their files, sorted by path; all else as it is."""
    for path in paths:
        if path.is_dir():
            inside = [entry.relative_to(path) for entry in path.rglob("*") if not entry.is_dir()]
            visible = [entry for entry in inside if not any(part.startswith(".") for part in entry.parts)]
            yield from (path / entry for entry in sorted(visible) if entry.name != METADATA_NAME)
        else:
            yield path


def _classify(model: ServedModel, files: Sequence[Path], top_k: int) -> Iterator[dict[str, Any]]:
    """A record for each of a batch of files."""
    images: dict[Path, bytes] = {}
    errors: dict[Path, str] = {}
    for file in files:
        try:
            images[file] = _read(file)
        except RejectedError as error:
            errors[file] = error.reason
    answers: dict[Path, list[dict[str, Any]]] = {}
    try:
        answers.update(zip(images, _ask(model, list(images.values()), top_k), strict=True))
    except tf.errors.InvalidArgumentError:  # the model refuses one of them, and with it the request: ask one by one
        for file, image in images.items():
            try:
                (answers[file],) = _ask(model, [image], top_k)
            except tf.errors.InvalidArgumentError as error:
                errors[file] = f"the model refuses it: {first_line(error)}"
    for file in files:
        shown = {"path": printable(str(file))}
        if file in errors:
            yield shown | {"error": errors[file]}
        else:
            yield shown | answers[file][0] | {"top_k": answers[file]}


def _read(file: Path) -> bytes:
    try:
        real = file.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        reason = error.strerror if isinstance(error, OSError) else "a link that leads to itself"
        raise RejectedError("open", f"it cannot be opened: {reason}") from error
    return read_image(read_file(str(real.parent), real.name)).encoded


def _ask(model: ServedModel, images: Sequence[bytes], top_k: int) -> list[list[dict[str, Any]]]:
    """The `top_k` classes of each image, most probable first."""
    if not images:
        return []
    answer = model.request(IMAGES_SIGNATURE, images)
    best = np.argsort(-answer["probabilities"], axis=1, kind="stable")[:, :top_k]
    return [
        [{"class": names[i].decode(), "probability": round(float(probabilities[i]), 6)} for i in order]
        for order, names, probabilities in zip(best, answer["classes"], answer["probabilities"], strict=True)
    ]
