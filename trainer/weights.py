"""Where pre-trained weights come from: ImageNet through Keras's cache, a Keras `.h5` file, or a seeded random draw."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import pathlib
import socket
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator

import h5py
import numpy as np

from trainer import inception_v3
from trainer.config import BackboneConfig
from trainer.errors import InputError

FILE_NAME = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
URL = f"https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/{FILE_NAME}"
MD5 = "bcbd6486424b2319ff4ef7d526e38f63"
"""What `keras.applications.InceptionV3(weights="imagenet", include_top=False)` downloads, and its published hash."""

RANDOM_SEED = 20151202
"""Of `weights: random`; one fixed value, so that every process draws the same network."""

_STALLED_AFTER = 20.0  # seconds without a byte
_PROBE = 3.0  # seconds

Arrays = dict[str, np.ndarray]
"""`<layer>/<weight>` to its value, float32."""


def load(config: BackboneConfig) -> tuple[Arrays, str, str]:
    """The weights `config` asks for.

    Returns:
        The arrays, float32, by `<canonical layer>/<weight>`; where they came from (`imagenet`, `random`, or a file's
        name); and a SHA-256, of the file's bytes or, for `random`, of the arrays'.

    Raises:
        InputError: the file is missing or does not fit, or ImageNet's weights can be had neither from the cache nor
            from the network and `if_unreachable` is `error`.
    """
    if config.weights == "random":
        return _drawn()
    if config.weights == "imagenet":
        try:
            path = _imagenet_file()
        except OSError as error:
            if config.if_unreachable == "error":
                raise InputError(
                    f"The ImageNet weights of InceptionV3 are not in Keras's cache and cannot be downloaded ({error}). "
                    f"Put {FILE_NAME} into {_cache_directories()[0]}, or set backbone.weights to the path of a Keras "
                    ".h5 file, or, to go on with an untrained network, set backbone.if_unreachable to random."
                ) from error
            logging.getLogger(__name__).warning(
                "THE BASE NETWORK IS RANDOM: the ImageNet weights cannot be downloaded (%s), and if_unreachable "
                "is 'random'. The model will be much worse than one that starts from ImageNet.",
                error,
            )
            return _drawn()
        return read_h5(path), "imagenet", _sha256(path)
    with _local(config.weights) as path:
        return read_h5(path), pathlib.PurePath(config.weights).name, _sha256(path)


def fingerprint(weights: str) -> str:
    """A text that changes when the same setting would give other weights; for cache keys.

    Needs no TensorFlow but to download.

    Args:
        weights: as in `BackboneConfig.weights`.

    Returns:
        The SHA-256 of the file that would be read. For ImageNet's, which is downloaded if it is not there yet, the hash
        it is checked against; or `unreachable`: so a run that fell back to a random network is not served again from
        a cache once the weights can be had.

    Raises:
        InputError: `weights` is a file that does not exist.
    """
    if weights == "random":
        return f"random-{RANDOM_SEED}"
    if weights == "imagenet":
        try:
            _imagenet_file()
        except OSError:
            return "unreachable"
        return MD5
    with _local(weights) as path:
        return _sha256(path)


def read_h5(path: pathlib.Path) -> Arrays:
    """Reads an InceptionV3 without top as Keras writes it, matching layers by their order, as Keras does.

    Weights stored in half precision are widened to float32.

    Args:
        path: an `.h5` of `model.save_weights` or `model.save` (`include_top=False`).

    Raises:
        InputError: not such a file; or the first tensor that does not fit, by its name and shape.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"{path} is not an HDF5 file: {error}. backbone.weights must name a Keras .h5 file."
        ) from error
    with file:
        root = file.get("model_weights", file)
        if "layer_names" not in root.attrs:
            raise InputError(
                f"{path} holds no Keras layers (no attribute 'layer_names'). Write it with Keras 2: "
                "`InceptionV3(include_top=False).save_weights('name.h5')`."
            )
        stored = [w for layer in _texts(root, "layer_names") for w in _weights_of(root[layer])]
        wanted = [(f"{layer.name}/{w}", shape) for layer in inception_v3.layers() for w, shape in layer.weights]
        arrays: Arrays = {}
        for (name, shape), (stored_name, data) in zip(wanted, stored, strict=False):
            if data.shape != shape or _last(stored_name) != _last(name):
                raise InputError(
                    f"{path} is not an InceptionV3 without top: its tensor {stored_name} has the shape {data.shape}, "
                    f"where {name} of shape {shape} belongs."
                )
            arrays[name] = np.asarray(data, np.float32)
            if not np.isfinite(arrays[name]).all():
                raise InputError(f"{path} is damaged: its tensor {stored_name} holds NaN or infinity.")
    if len(stored) != len(wanted):
        extra = f" The first one too many is {stored[len(wanted)][0]}." if len(stored) > len(wanted) else ""
        raise InputError(
            f"{path} is not an InceptionV3 without top: it holds {len(stored)} tensors, not {len(wanted)}.{extra} "
            "Save the model with include_top=False."
        )
    return arrays


def _texts(node: h5py.Group, attribute: str) -> list[str]:
    """A list of names; Keras splits a long one over attributes numbered from 0."""
    chunks = [attribute] if attribute in node.attrs else []
    while f"{attribute}{len(chunks)}" in node.attrs:
        chunks.append(f"{attribute}{len(chunks)}")
    return [t.decode() if isinstance(t, bytes) else str(t) for chunk in chunks for t in node.attrs[chunk]]


def _weights_of(layer: h5py.Group) -> list[tuple[str, h5py.Dataset]]:
    return [(name, layer[name]) for name in _texts(layer, "weight_names")]


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1].split(":")[0]


def _drawn() -> tuple[Arrays, str, str]:
    """Keras's own initial values (Glorot uniform kernels, identity BatchNorm) from a fixed seed."""
    generator = np.random.default_rng(RANDOM_SEED)
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


def _cache_directories() -> list[pathlib.Path]:
    """Where `keras.utils.get_file` looks: the second where the first cannot be written."""
    return [pathlib.Path.home() / ".keras" / "models", pathlib.Path("/tmp/.keras/models")]


def _cached_file() -> pathlib.Path | None:
    return next((d / FILE_NAME for d in _cache_directories() if (d / FILE_NAME).is_file()), None)


def _imagenet_file() -> pathlib.Path:
    """Keras's file from its cache, or downloaded into it. Raises OSError where it cannot be had."""
    cached = _cached_file()
    if cached is not None:
        found = hashlib.md5(cached.read_bytes()).hexdigest()
        if found != MD5:  # Keras would download anew, and on failure delete the user's file
            raise InputError(
                f"{cached} is not the file that Keras publishes (MD5 {found}, expected {MD5}). "
                "Delete it to have it downloaded again, or set backbone.weights to its path to use it as it is."
            )
        return cached
    if not _reachable():
        raise OSError(f"{urllib.parse.urlsplit(URL).hostname} cannot be reached")
    from keras.utils import get_file  # TensorFlow takes seconds to import, and only a download needs it

    _cache_directories()[0].parent.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_STALLED_AFTER)
    try:
        return pathlib.Path(get_file(FILE_NAME, URL, cache_subdir="models", file_hash=MD5))
    except OSError:
        raise
    except Exception as error:  # get_file wraps what urllib says in a bare Exception
        raise OSError(str(error)) from error
    finally:
        socket.setdefaulttimeout(before)


def _reachable() -> bool:
    """Whether the download's host, or the proxy in front of it, accepts a TCP connection."""
    target = urllib.parse.urlsplit(urllib.request.getproxies().get("https") or URL)
    try:
        port = target.port or (443 if target.scheme == "https" else 80)
        socket.create_connection((target.hostname or "", port), timeout=_PROBE).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _local(weights: str) -> Iterator[pathlib.Path]:
    """The file as a local path; one on a remote file system is copied for the while."""
    if "://" not in weights:
        path = pathlib.Path(weights).expanduser()
        if not path.is_file():
            raise InputError(
                f"backbone.weights is {weights!r}: neither imagenet, nor random, nor a file ({path.absolute()})."
            )
        yield path
        return
    from tensorflow.io import gfile  # knows gs:// and the like; slow to import

    if not gfile.exists(weights):
        raise InputError(f"backbone.weights is {weights!r}: there is no such file.")
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / pathlib.PurePath(weights).name
        gfile.copy(weights, str(path))
        yield path


def _sha256(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
