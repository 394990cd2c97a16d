"""Loads pre-trained weights: ImageNet's through Keras's cache, a file or folder, TF-Hub, or random ones."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import logging
import math
import pathlib
import re
import tempfile
from collections.abc import Iterator

import numpy as np

from core import checksums, inception_v3
from core.artifacts import exported_model
from core.errors import InputError
from core.settings.backbone import BackboneConfig
from trainer.weights import download
from trainer.weights.h5 import Arrays, read_h5

_RANDOM_SEED = 20151202  # of `weights: random`: every process draws the same network
_HDF5 = b"\x89HDF\r\n\x1a\n"
_SAVED_MODEL = "saved_model.pb"
_CHECKPOINT_PART = re.compile(r"\.(index|data-\d{5}-of-\d{5})$")


def load(config: BackboneConfig) -> tuple[Arrays, str, str]:
    """The weights that the settings name.

    Returns:
        The arrays, at least up to `config.output`; `source` and `sha256` of `core.artifacts.backbone.BackboneRecord`.

    Raises:
        InputError: they are missing, do not fit or do not match `sha256`; or they cannot be downloaded, and
            `if_unreachable` is `error` or `sha256` is given.
    """
    if config.weights == "random":
        drawn = _drawn()
        _check_sha256(drawn[2], config)
        return drawn
    try:
        with _local(config.weights) as path:
            sha256 = _sha256(_files(path, config.weights))
            _check_sha256(sha256, config)
            source = f"{path.parent.name}/{path.name}" if path.is_dir() else path.name
            if config.weights == "imagenet" or download.is_handle(config.weights):
                source = config.weights
            return _read(path, config), source, sha256
    except download.UnreachableError as error:
        if config.if_unreachable == "error" or config.sha256 is not None:
            raise InputError(
                f"{error}, or set backbone.weights to the path of a Keras .h5 file, a checkpoint or a SavedModel, or, "
                "to continue with an untrained network, set backbone.if_unreachable to random."
            ) from error
        logging.getLogger(__name__).warning("THE BASE NETWORK IS RANDOM, as if_unreachable allows it: %s.", error)
        return _drawn()


def fingerprint(config: BackboneConfig) -> str:
    """A text that changes when the same settings would give other weights; for cache keys.

    Needs TensorFlow only to download. It is `unreachable` if that fails, so that a run that fell back to a random
    network is not reused from the cache once the weights can be downloaded.

    Raises:
        InputError: there is nothing to read at a path, or the weights do not match `config.sha256`.
    """
    if config.weights == "random":
        return f"random-{_RANDOM_SEED}"
    try:
        with _local(config.weights) as path:
            if config.weights == "imagenet" and config.sha256 is None:
                return download.MD5
            sha256 = _sha256(_files(path, config.weights))
            _check_sha256(sha256, config)
            return sha256
    except download.UnreachableError:
        return "unreachable"


def _check_sha256(sha256: str, config: BackboneConfig) -> None:
    if config.sha256 not in (None, sha256):
        raise InputError(
            f"backbone.weights is {config.weights}, whose SHA-256 is {sha256}, and backbone.sha256 wants "
            f"{config.sha256}: these are other weights. Bring back those that you reviewed; or, if the change is "
            "meant, set backbone.sha256 to the new value."
        )


def _read(path: pathlib.Path, config: BackboneConfig) -> Arrays:
    if path.is_file():
        with path.open("rb") as file:
            is_hdf5 = file.read(len(_HDF5)) == _HDF5
        if is_hdf5 or path.suffix in (".h5", ".hdf5", ".keras"):
            return read_h5(path)
    from trainer.weights import named  # needs TensorFlow, seconds to import

    prefix = exported_model.checkpoint(str(path)) if path.is_dir() else str(path)
    return named.read(prefix, config.weights, config.output)


def _drawn() -> tuple[Arrays, str, str]:
    """Keras's own initial values (Glorot uniform kernels, identity BatchNorm) from a fixed seed."""
    generator = np.random.default_rng(_RANDOM_SEED)
    arrays: Arrays = {}
    for layer in inception_v3.layers():
        for weight, shape in layer.weights:
            if weight == "kernel":
                limit = math.sqrt(6.0 / (math.prod(shape[:2]) * (shape[2] + shape[3])))
                value = ((2 * generator.random(shape, np.float32) - 1) * limit).astype(np.float32)
            else:
                value = np.full(shape, float(weight == "moving_variance"), np.float32)
            arrays[f"{layer.name}/{weight}"] = value
    digest = hashlib.sha256()
    for name, value in arrays.items():
        digest.update(name.encode())
        digest.update(value.tobytes())
    return arrays, "random", digest.hexdigest()


@contextlib.contextmanager
def _local(weights: str) -> Iterator[pathlib.Path]:
    """The local file, SavedModel folder or checkpoint prefix; a temporary copy of a remote one. Raises
    UnreachableError.
    """
    if weights == "imagenet":
        yield download.imagenet_file()
    elif download.is_handle(weights):
        yield download.hub_folder(weights)
    elif "://" not in weights:
        yield pathlib.Path(_CHECKPOINT_PART.sub("", weights)).expanduser()
    else:
        with tempfile.TemporaryDirectory() as directory:
            yield _copied(_CHECKPOINT_PART.sub("", weights).rstrip("/"), pathlib.Path(directory))


def _copied(remote: str, directory: pathlib.Path) -> pathlib.Path:
    """Copies a file, a SavedModel or a checkpoint's parts, if they exist."""
    from tensorflow.io import gfile  # knows gs:// and the like; slow to import

    found = [remote] if gfile.exists(remote) else gfile.glob([f"{remote}.index", f"{remote}.data-*"])
    parent, _, name = remote.rpartition("/")
    if gfile.isdir(remote):
        norms = exported_model.batch_norms(remote)
        found = gfile.glob([f"{remote}/{_SAVED_MODEL}", f"{remote}/variables/*", f"{norms}.*"])
    for file in found:
        copy = directory / file.removeprefix(f"{parent}/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        gfile.copy(file, str(copy))
    return directory / name


def _files(path: pathlib.Path, weights: str) -> list[pathlib.Path]:
    """All files that are read for a file, SavedModel folder or checkpoint prefix, in a fixed order."""
    if path.is_file():
        return [path]
    if (path / _SAVED_MODEL).is_file():
        checkpoints = exported_model.checkpoint(str(path)), exported_model.batch_norms(str(path))
        return [path / _SAVED_MODEL, *(part for prefix in checkpoints for part in _parts(pathlib.Path(prefix)))]
    if path.is_dir():
        inside = next((p for p in sorted(path.iterdir(), reverse=True) if (p / _SAVED_MODEL).is_file()), None)
        hint = f"give one of its versions, such as {inside}" if inside else "of a checkpoint, give its prefix"
        raise InputError(
            f"backbone.weights is {weights!r}: the folder is no SavedModel, it has no {_SAVED_MODEL}; {hint}."
        )
    parts = _parts(path)
    if not parts:
        raise InputError(
            f"backbone.weights is {weights!r}: neither imagenet, nor random, nor a file, a SavedModel's folder, a "
            f"checkpoint's prefix ({path.absolute()}) or a TF-Hub handle (https://…)."
        )
    return parts


def _parts(prefix: pathlib.Path) -> list[pathlib.Path]:
    """The files of a checkpoint."""
    found = sorted(prefix.parent.glob(f"{glob.escape(prefix.name)}.*"))
    return [path for path in found if _CHECKPOINT_PART.search(path.name)]


def _sha256(files: list[pathlib.Path]) -> str:
    """The hash of a single file's bytes, or of several files' names and hashes."""
    if len(files) > 1:
        return hashlib.sha256("".join(f"{f.name} {_sha256([f])}\n" for f in files).encode()).hexdigest()
    return checksums.sha256(files[0])
