"""Weights that are downloaded once and then read from a cache: Keras's ImageNet file and TF-Hub modules."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from core.errors import InputError

FILE_NAME = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
URL = f"https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/{FILE_NAME}"
MD5 = "bcbd6486424b2319ff4ef7d526e38f63"
"""What `keras.applications.InceptionV3(weights="imagenet", include_top=False)` downloads, and its published hash."""

_STALLED_AFTER = 20.0  # seconds without a byte
_PROBE = 3.0  # seconds


class UnreachableError(Exception):
    """Weights are not cached and cannot be downloaded; the message says which, why, and what file to put where."""


def imagenet_file() -> pathlib.Path:
    """Keras's file from its cache, or downloaded into it. Raises UnreachableError; InputError for a changed file."""
    cached = next((d / FILE_NAME for d in cache_directories() if (d / FILE_NAME).is_file()), None)
    if cached is not None:
        found = hashlib.md5(cached.read_bytes()).hexdigest()
        if found != MD5:  # Keras would download anew, and on failure delete the user's file
            raise InputError(
                f"{cached} is not the file that Keras publishes (MD5 {found}, expected {MD5}). "
                "Delete it to have it downloaded again, or set backbone.weights to its path to use it as it is."
            )
        return cached
    missing = "The ImageNet weights of InceptionV3 are not in Keras's cache"
    with _download(missing, f"Put {URL} into {cache_directories()[0]}", probe=URL):
        from keras.utils import get_file  # TensorFlow takes seconds to import, and only a download needs it

        cache_directories()[0].parent.mkdir(parents=True, exist_ok=True)
        return pathlib.Path(get_file(FILE_NAME, URL, cache_subdir="models", file_hash=MD5))


def is_handle(weights: str) -> bool:
    """Whether `weights` is what TensorFlow Hub downloads: the address of a module."""
    return weights.startswith(("https://", "http://"))


def hub_folder(handle: str) -> pathlib.Path:
    """A handle's SavedModel, from TF-Hub's cache or downloaded into it.

    The cache is `TFHUB_CACHE_DIR` or a folder in the user's home; TF-Hub's own default is in the machine's temporary
    folder, where any user could plant a network under a handle's name.

    Raises:
        UnreachableError: the cache lacks it, and it cannot be downloaded.
        InputError: the handle is not encrypted.
    """
    if not handle.startswith("https://"):
        raise InputError(
            f"backbone.weights is {handle}: whoever is on the way could change what http:// brings. Give its https:// "
            "address; or download it, look at it, and set backbone.weights to its folder."
        )
    from tensorflow_hub.compressed_module_resolver import HttpCompressedFileResolver

    class Resolver(HttpCompressedFileResolver):
        def _call_urlopen(self, request: urllib.request.Request | str) -> Any:
            return urllib.request.build_opener(_StaysEncrypted).open(request)

    os.environ.setdefault("TFHUB_CACHE_DIR", str(pathlib.Path.home() / ".cache" / "tfhub_modules"))
    missing = f"The TF-Hub module {handle} is not in TF-Hub's cache"
    with _download(missing, "Download it elsewhere and set backbone.weights to its folder"):
        return pathlib.Path(Resolver()(handle))


def cache_directories() -> list[pathlib.Path]:
    """Where `keras.utils.get_file` looks: in the second if the first cannot be written."""
    return [pathlib.Path.home() / ".keras" / "models", pathlib.Path("/tmp/.keras/models")]


@contextlib.contextmanager
def _download(missing: str, instead: str, probe: str | None = None) -> Iterator[None]:
    """Turns whatever the block raises into an UnreachableError: what is `missing`, why, and what to do `instead`.

    Stalled downloads fail; if the host of `probe`, or its proxy, accepts no TCP connection, they fail immediately.
    """
    before = socket.getdefaulttimeout()
    try:
        if probe:
            target = urllib.parse.urlsplit(urllib.request.getproxies().get("https") or probe)
            port = target.port or (443 if target.scheme == "https" else 80)
            try:
                socket.create_connection((target.hostname or "", port), timeout=_PROBE).close()
            except OSError as error:
                raise OSError(f"{urllib.parse.urlsplit(probe).hostname} cannot be reached") from error
        socket.setdefaulttimeout(_STALLED_AFTER)
        yield
    except Exception as error:  # urllib's, tarfile's or TF-Hub's; Keras wraps what urllib says in a bare Exception
        raise UnreachableError(f"{missing} and cannot be downloaded ({error}). {instead}") from error
    finally:
        socket.setdefaulttimeout(before)


class _StaysEncrypted(urllib.request.HTTPRedirectHandler):
    """Refuses redirections from https:// to http://."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        """Called by urllib."""
        if not newurl.startswith("https://"):
            raise OSError(f"it is redirected to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
