"""Files in object stores (`gs://`, `s3://`), through Beam's file systems: one way to read images and push models.

TensorFlow's file systems cannot read `s3://`, and must not be used in a process that forks. In a store, a folder is a
common prefix of names, and renaming is not atomic; but an object appears complete once it is written, or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from core.errors import InputError, MachineError

_NEEDS = {
    "gs": "gs:// needs Google's application default credentials.",
    "s3": "s3:// needs the extra `aws` (uv sync --extra aws) and credentials where boto3 looks for them.",
}
_SECONDS = 30.0  # for a store to accept a file; its clients retry for minutes
_NOT_FOUND = 404


class StoreError(MachineError):
    """A store refuses a request or fails; the message says what, why, and what the store needs."""


class Stored(NamedTuple):
    """An object: its path relative to the listed folder, its size in bytes, and when it was uploaded, in seconds."""

    path: str
    size: int
    uploaded: float


def is_remote(path: str | Path) -> bool:
    """Whether it is a URL rather than a local path."""
    return "://" in str(path)


def find(folder: str, prefix: str = "") -> Iterator[Stored]:
    """All objects below a folder whose relative paths begin with the prefix, in one listing.

    Raises:
        StoreError: the store does not list it.
    """
    root = folder.rstrip("/") + "/"
    with _telling(f"{folder} cannot be listed"):
        (found,) = file_systems().match([f"{glob.escape(root + prefix)}**"])
    for item in found.metadata_list:
        yield Stored(item.path.removeprefix(root), item.size_in_bytes, item.last_updated_in_seconds)


def files(folder: str) -> list[str]:
    """Relative paths of all files below a remote folder, sorted; without the empty objects that mark folders.

    Raises:
        StoreError: the store does not list it.
    """
    return sorted(one.path for one in find(folder) if one.path and not one.path.endswith("/"))


def exists(path: str) -> bool:
    """Whether a file exists, local or remote. Raises StoreError if the store does not say."""
    if not is_remote(path):
        return Path(path).is_file()
    folder, _, name = path.rpartition("/")
    return any(item.path == name for item in find(folder, name))


def open_bytes(path: str) -> BinaryIO:
    """Opens an object for reading its bytes as they are, whatever its extension."""
    from apache_beam.io.filesystem import CompressionTypes

    return file_systems().open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def fetch(path: str, target: BinaryIO) -> None:
    """Writes an object's bytes into a file.

    Raises:
        FileNotFoundError: there is no such object.
        StoreError: it cannot be read.
    """
    try:
        with _telling(f"{path} cannot be read"), open_bytes(path) as source:
            shutil.copyfileobj(source, target, 2**20)
    except StoreError as error:
        if _is_not_found(error.__cause__):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        raise


def store(source: BinaryIO, path: str) -> None:
    """Creates or replaces an object with the rest of a file, from its current position.

    Raises:
        StoreError: the store does not accept it.
    """
    from apache_beam.io.filesystem import CompressionTypes

    with (
        _telling(f"{path} cannot be written"),
        file_systems().create(path, compression_type=CompressionTypes.UNCOMPRESSED) as target,
    ):
        shutil.copyfileobj(source, target, 2**20)


def copy(source: str, target: str) -> None:
    """Copies a file; source and target may each be local or remote. A local target's folder must exist.

    Raises:
        FileNotFoundError: there is no such source.
        OSError: a local file cannot be read or written; StoreError for a remote one.
    """
    if not is_remote(source) and not is_remote(target):
        shutil.copyfile(source, target)  # whose errors name the file
    elif not is_remote(source):
        with Path(source).open("rb") as file:
            store(file, target)
    elif not is_remote(target):
        with Path(target).open("wb") as file:
            fetch(source, file)
    else:
        with tempfile.TemporaryFile() as file:
            fetch(source, file)
            file.seek(0)
            store(file, target)


def make_folder(path: str) -> None:
    """Makes a local folder and its parents, if they do not exist; a store has no folders."""
    if not is_remote(path):
        Path(path).mkdir(parents=True, exist_ok=True)


def delete_folder(folder: str, first: str = "") -> None:
    """Deletes a folder, local or remote; in a store, the object named `first` goes first.

    Raises:
        OSError: a local one cannot be deleted; StoreError for a remote one.
    """
    if is_remote(folder):
        names = sorted((one.path for one in find(folder)), key=lambda name: name != first)
        _delete(f"{folder}/{name}" for name in names)
    else:
        shutil.rmtree(folder)


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """A local folder or file: itself, or a copy of a remote one that is deleted when the block ends.

    Raises:
        FileNotFoundError: there is no such folder or file.
        StoreError: it cannot be read.
    """
    if not is_remote(path):
        yield path
        return
    path = path.rstrip("/")
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        place = Path(folder, path.rpartition("/")[2])
        names = files(path)
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            copy(f"{path}/{name}", str(place / name))
        if not names:
            copy(path, str(place))
        yield str(place)


def check_writable(folder: str) -> None:
    """Checks that a remote folder can be written, by creating and deleting an object.

    Raises:
        InputError: the store refuses, or does not answer within half a minute.
    """
    ended: list[InputError | None] = []

    def attempt() -> None:
        path = f"{folder}/.unfinished-{uuid.uuid4().hex}"
        try:
            store(io.BytesIO(b"written to see whether it can be; to be deleted\n"), path)
            _delete([path])
            ended.append(None)
        except Exception as error:
            ended.append(InputError(str(error).replace(path, folder)))

    file_systems()  # importing must not count as the store's time
    # The stores' clients retry for minutes, and have no timeout that covers a whole request.
    thread = threading.Thread(target=attempt, name="store", daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if not ended:
        raise InputError(
            f"{folder} cannot be written: the store has not answered for {_SECONDS:.0f} s. {_needs(folder)}"
        )
    if ended[0]:
        raise ended[0]


def file_systems() -> Any:
    """Beam's `FileSystems`, with the options that s3:// insists on even outside a Beam pipeline."""
    from apache_beam.io.filesystems import FileSystems  # takes seconds, and local files do not need it
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.options.value_provider import RuntimeValueProvider

    if FileSystems._pipeline_options is None and RuntimeValueProvider.runtime_options is None:
        FileSystems.set_options(PipelineOptions([]))
    return FileSystems


def _delete(paths: Iterable[str]) -> None:
    for path in paths:
        with _telling(f"{path} cannot be deleted"):
            file_systems().delete([path])


@contextlib.contextmanager
def _telling(what: str) -> Iterator[None]:
    """Turns whatever a store's client raises into a StoreError; `what` begins with the URL."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # this machine's disk, not the store
        raise StoreError(f"{what}: {_cause(error)}. {_needs(what)}".rstrip()) from error


def _needs(url: str) -> str:
    return _NEEDS.get(url.partition("://")[0], "")


def _cause(error: BaseException) -> str:
    """The store's own message, unwrapped from Beam's errors."""
    within = getattr(error, "exception_details", None) or {}
    return next((_cause(one) for one in within.values() if isinstance(one, BaseException)), str(error).rstrip("."))


def _is_not_found(error: BaseException | None) -> bool:
    return isinstance(error, FileNotFoundError) or getattr(error, "code", None) == _NOT_FOUND
