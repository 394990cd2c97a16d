"""Image files through an exported model, a batch at a time: a record per file, whatever is wrong with some.

A file is read as at ingestion (same formats, same orientation, same limits), so the model sees what it was trained on,
and decoded in a process of its own, as there. `predict`, `batch-predict`, `monitor`, `similar` and `client` share this.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from components.ingestion import parallel
from components.ingestion.decoder import Decoder
from components.ingestion.image_folder import printable, read_anywhere
from components.ingestion.image_reading import RejectedError, for_model
from components.serving.model_client import RemoteModel
from components.serving.served_model import ServedModel, errors_of, first_line
from components.serving.tflite_model import TFLiteModel
from core import checksums, progress, signatures, storage
from core.artifacts import provenance, tflite_archive
from core.artifacts.model_limits import model_limits
from core.artifacts.tflite_files import SUFFIX
from core.errors import InputError
from core.image_limits import ImageLimits
from pipeline.runs import push_directory

if TYPE_CHECKING:
    from core.signing import PublicKey

_LOG = logging.getLogger(__name__)

BATCH_SIZE = 32  # images sent to the model at a time


class ImageFile(NamedTuple):
    """A file by its path in records: the image as the model takes it, or why it could not be read."""

    path: str
    encoded: bytes
    error: str = ""


def predict(
    model_dir: str | Path,
    files: Sequence[str | Path],
    top_k: int = 3,
    batch_size: int = BATCH_SIZE,
    say: Callable[[str], None] = _LOG.info,
    key: PublicKey | None = None,
) -> Iterator[dict[str, Any]]:
    """Classifies image files on this machine, in the order given; holds one batch at a time.

    Args:
        model_dir: a SavedModel's folder, a TensorFlow Lite file of ours, or a push directory, whose latest good version
            is taken.
        files: image files; `names.expand` lists those of a folder.
        top_k: how many classes to list, at most as many as there are.
        say: gets a sentence about the model if there is one.
        key: that must have signed the model; None asks for no signature.

    Yields:
        See `classify`.

    Raises:
        InputError: there is no model that takes images, or `top_k` or `batch_size` is less than 1.
    """
    check_positive(top_k=top_k, batch_size=batch_size)
    directory = find_model(str(model_dir), say, key)
    done = 0
    with Decoder(for_model, limits_of(directory)) as decoder, load(directory, say, key) as model:
        for batch in batches(read(map(str, files), decoder), batch_size):
            yield from classify(model, batch, top_k)
            done += len(batch)
            progress.report(done, len(files), "images")


def read(
    locations: Iterable[str], decoder: Decoder[bytes], shown: Callable[[str], str] = lambda location: location
) -> Iterator[ImageFile]:
    """Reads files, local or any that Beam reads, as ingestion does: what the model cannot decode becomes a PNG.

    Args:
        locations: of the files, of which some are held at a time.
        decoder: reads by `for_model`.
        shown: a file's path in records.
    """

    def opened(location: str) -> ImageFile:
        path = printable(shown(location))
        try:
            return ImageFile(path, read_anywhere(location, decoder.limits))
        except RejectedError as error:
            return ImageFile(path, b"", error.reason)

    for some in batches(map(opened, locations), BATCH_SIZE):
        decoded = decoder.read([file.encoded for file in some if not file.error])
        for file in some:
            image = b"" if file.error else next(decoded)
            if isinstance(image, RejectedError):
                yield ImageFile(file.path, b"", image.reason)
            else:
                yield file._replace(encoded=image)


def batches(files: Iterable[ImageFile], size: int) -> Iterator[list[ImageFile]]:
    """Groups files, in order, by at most `size` files and, for the memory's sake, by their bytes."""
    return parallel.batches(files, size, lambda file: len(file.encoded))


def find_model(directory: str, say: Callable[[str], None] = _LOG.info, key: PublicKey | None = None) -> str:
    """A SavedModel's folder or a TensorFlow Lite file, local or remote: this one, or a push directory's latest version
    that is good, and signed by the key if one is given.

    Raises:
        InputError: there is none.
        StoreError: a store does not say.
    """
    if directory.endswith(SUFFIX):
        if not storage.exists(directory):
            raise InputError(f"there is no file {directory}")
        return directory
    directory = directory.rstrip("/") or "/"
    if storage.exists(f"{directory}/saved_model.pb"):
        return directory
    if push_directory.versions(directory):
        return push_directory.latest(directory, say, key)
    raise InputError(f"there is no model in {directory}: no saved_model.pb; name a model's folder or run the pipeline")


def limits_of(directory: str) -> ImageLimits:
    """Of the images that a model takes which `find_model` returned. Raises InputError where it is damaged."""
    if not directory.endswith(SUFFIX):
        return model_limits(directory)
    try:
        return tflite_archive.read(directory)[2].limits
    except OSError as error:
        raise InputError(str(error)) from error


def load(
    directory: str, say: Callable[[str], None] = _LOG.info, key: PublicKey | None = None
) -> ServedModel | TFLiteModel:
    """Verifies and loads the model that `find_model` returned; others' exports cannot be verified.

    Args:
        say: gets a sentence about the model if there is one.
        key: that must have signed it, or the version beside which a TensorFlow Lite file lies.

    Raises:
        InputError: the model's files are damaged, or not signed by the key, or it does not take images.
    """
    if directory.endswith(SUFFIX):
        if key:
            _verify(directory.rpartition("/")[0] or ".", directory, key, "; a file is verified in its version's folder")
        with _damage_told(directory):
            checksums.verify_if_listed_there(directory)
            return TFLiteModel(directory)
    return load_saved_model(directory, say, key)


def load_saved_model(
    directory: str, say: Callable[[str], None] = _LOG.info, key: PublicKey | None = None
) -> ServedModel:
    """As `load`, of what is no TensorFlow Lite file."""
    with _damage_told(directory), storage.local_copy(directory) as local:
        if key:
            _verify(local, directory, key)
        if not checksums.verify_if_listed(local):
            say(f"{directory} has no {checksums.CHECKSUMS}, so that nothing can verify its files")
        model = ServedModel(local)
    if signatures.IMAGES not in model.signatures:
        model.close()
        raise InputError(
            f"the model in {directory} has no signature {signatures.IMAGES}; this pipeline did not export it"
        )
    return model


def _verify(version: str, model: str, key: PublicKey, where: str = "") -> None:
    """Raises InputError, in which the model has its name, where the key did not sign the version."""
    try:
        provenance.verify(version, key)
    except OSError as error:
        raise InputError(f"the model in {model} is not used, since --verify-key is given: {error}{where}") from error


@contextlib.contextmanager
def _damage_told(directory: str) -> Iterator[None]:
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = first_line(error)
        raise InputError(f"the model in {directory} cannot be loaded, its files are damaged: {reason}") from error


def classify(
    model: ServedModel | RemoteModel | TFLiteModel, files: Sequence[ImageFile], top_k: int
) -> list[dict[str, Any]]:
    """A record for each file, in order.

    Returns:
        `path`, `class`, `probability`, `novelty` and `top_k`, a list of `class` and `probability`, most probable first
        and at most as many as there are classes; or `path` and `error`, where the file could not be read or the model
        refuses it. Where the model withholds the label, `class` is "" and `reason` says why. A converted model, or one
        that an earlier version exported, says nothing of novelty.
    """
    predictions = _predict(model, [file.encoded for file in files if not file.error], top_k)
    return [{"path": file.path, **({"error": file.error} if file.error else next(predictions))} for file in files]


def _predict(
    model: ServedModel | RemoteModel | TFLiteModel, images: Sequence[bytes], top_k: int
) -> Iterator[dict[str, Any]]:
    """What records have beside the path."""
    if not images:
        return
    response = model.request(signatures.IMAGES, images)
    best = np.argsort(-response["probabilities"], axis=1, kind="stable")[:, :top_k]
    for number, (error, order) in enumerate(zip(errors_of(response), best, strict=True)):
        if error:
            yield {"error": f"the model refuses it: {error}"}
            continue
        names, probabilities = response["classes"][number], response["probabilities"][number]
        classes = [{"class": names[i].decode(), "probability": round(float(probabilities[i]), 6)} for i in order]
        yield {**classes[0], **_certainty(response, number), "top_k": classes}


def _certainty(response: Mapping[str, np.ndarray], number: int) -> dict[str, Any]:
    if signatures.NOVELTY not in response:
        return {}
    novelty = {"novelty": round(float(response[signatures.NOVELTY][number]), 6)}
    reason = response[signatures.REASON][number].decode()
    return {"class": "", **novelty, "reason": reason} if reason else novelty


def check_positive(**numbers: int) -> None:
    """Raises InputError for a number that is less than 1, by its name."""
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"{name} is {number}; it must be at least 1")
