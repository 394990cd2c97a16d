"""The files below a data folder, local or remote: which there are, how to tell that one changed, and their bytes.

Remote folders (`gs://`, `s3://`) are read through Beam's file systems: one listing call for the whole tree, where TFX's
`fileio` would ask for every file, and TensorFlow's reads no `s3://` at all.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from components.ingestion.image_reading import RejectedError
from core.errors import InputError
from core.image_limits import DEFAULT_LIMITS, ImageLimits

METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
"""Ignored in the data folder even where they are not asked for: the image-folder convention's names."""

_IGNORED = ("Thumbs.db", "desktop.ini")  # What Windows leaves behind; `.DS_Store` and the like start with a dot.
_OUTSIDE = "it is a link out of the data folder"
_NEEDS = {
    "gs": "gs:// needs Google's application default credentials.",
    "s3": "s3:// needs the extra `aws` (uv sync --extra aws) and credentials where boto3 looks for them.",
}
_SHOWN = 5


class FoundFile(NamedTuple):
    """One file below the data folder.

    Attributes:
        path: relative to the data folder, with `/`.
        state: size and time of change, for the fingerprint.
        problem: why it cannot be read, known already from where it is or what it is called; else empty.
    """

    path: str
    state: str
    problem: str = ""


class Tree(NamedTuple):
    """All that is below a data folder.

    Attributes:
        files: sorted by path.
        folders: relative paths of the folders, sorted, with `/` between their parts.
        ignored: how many hidden files and folders were passed over (and what Windows leaves behind).
    """

    files: list[FoundFile]
    folders: list[str]
    ignored: int


def walk(folder: str) -> Tree:
    """Lists everything below a folder; nothing is opened.

    Links within the folder are followed. Those that lead out of it, or back to a folder they are in, and names that are
    not UTF-8 are listed with their problem.

    Args:
        folder: a local path, or a URL of a scheme that Beam has a file system for.

    Raises:
        InputError: if there is no such folder, or one in it cannot be listed or has a name that is not UTF-8.
    """
    return _walk_remote(folder) if is_remote(folder) else _walk_local(folder)


def _walk_local(folder: str) -> Tree:
    if not Path(folder).is_dir():
        raise InputError(f"The data folder {folder} does not exist.")
    root = os.path.realpath(folder)
    files, folders, ignored = [], [], 0
    waiting: list[tuple[str, tuple[str, ...]]] = [("", (root,))]
    while waiting:
        relative, real_folders = waiting.pop()
        try:
            items = list(os.scandir(real_folders[-1]))
        except PermissionError as error:
            raise InputError(f"The folder {folder}/{relative} cannot be listed: {error.strerror}.") from error
        for item in items:
            if _is_hidden(item.name):
                ignored += 1
                continue
            path = relative + printable(item.name)
            try:
                info = item.stat()
            except OSError as error:  # A broken link; reading it says why.
                files.append(FoundFile(path, str(error.strerror)))
                continue
            if not stat.S_ISDIR(info.st_mode):
                problem = "" if printable(item.name) == item.name else "its name is not UTF-8"
                files.append(FoundFile(path, f"{info.st_size} {info.st_mtime_ns}", problem))
                continue
            if printable(item.name) != item.name:
                raise InputError(f"The folder {path} in {folder} has a name that is not UTF-8. Rename it.")
            real = os.path.realpath(item.path)
            if not Path(real).is_relative_to(root):
                files.append(FoundFile(path, "", _OUTSIDE))
            elif real in real_folders:
                files.append(FoundFile(path, "", "it is a link to a folder it is in"))
            else:
                folders.append(path)
                waiting.append((f"{path}/", (*real_folders, real)))
    return Tree(sorted(files), sorted(folders), ignored)


def _walk_remote(folder: str) -> Tree:
    from apache_beam.io.filesystem import BeamIOError  # takes seconds, and local folders need none of it

    root = folder.rstrip("/") + "/"
    try:
        (found,) = _file_systems().match([f"{root}**"])
    except (BeamIOError, ValueError) as error:
        needs = _NEEDS.get(folder.partition("://")[0], "")
        raise InputError(f"The data folder {folder} cannot be listed: {_cause(error)}. {needs}".rstrip()) from error
    files: list[FoundFile] = []
    folders: set[str] = set()
    hidden: set[str] = set()
    for item in found.metadata_list:
        path = item.path.removeprefix(root)
        parts = path.split("/")
        first_hidden = next((i for i, part in enumerate(parts) if _is_hidden(part)), None)
        if first_hidden is not None:
            hidden.add("/".join(parts[: first_hidden + 1]))
            continue
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
        if parts[-1]:  # An object whose name ends in `/` stands for a folder.
            files.append(FoundFile(path, f"{item.size_in_bytes} {item.last_updated_in_seconds}"))
    if not files:
        raise InputError(f"The data folder {folder} does not exist, or is empty.")
    return Tree(sorted(files), sorted(folders), len(hidden))


def _cause(error: BaseException) -> str:
    """What a store said, out of the errors that Beam puts around it."""
    within = getattr(error, "exception_details", None) or {}
    return next((_cause(one) for one in within.values() if isinstance(one, BaseException)), str(error).rstrip("."))


def fingerprint(folder: str, files: Iterable[FoundFile], read: Iterable[str] = ()) -> str:
    """A text that changes when any file is added, removed, renamed, moved to another class or rewritten.

    TFX's own adds up sizes and whole seconds: it does not see an image that moved to another class.

    Args:
        folder: the data folder.
        files: what is in it.
        read: small files, relative to the folder, that count by their content.
    """
    digest, number = hashlib.sha256(), 0
    for file in files:
        digest.update(f"{file.path}\0{file.state}\n".encode())
        number += 1
    for name in read:
        digest.update(read_whole(folder, name))
    return f"files:{number},sha256:{digest.hexdigest()}"


def read_file(folder: str, path: str, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """The bytes of one file, at most as many as the limits allow and one more.

    Raises:
        RejectedError: if it is a link out of the data folder, not a regular file, too large, or cannot be opened. Of a
            remote file only the size is a reason: that a store does not answer says nothing about the picture, so
            such errors are raised as they are, and stop the run once Beam has retried.
    """
    if is_remote(folder):
        with open_remote(f"{folder}/{path}") as file:
            return file.read(limits.file_bytes + 1)
    real = regular_file(folder, path)
    try:
        size = real.stat().st_size
        if size > limits.file_bytes:
            raise RejectedError("limits", f"{size:,} bytes are more than {limits.max_file_mb:g} MB")
        return real.read_bytes()
    except OSError as error:
        raise RejectedError("open", f"it cannot be opened: {error.strerror}") from error


def regular_file(folder: str, path: str) -> Path:
    """Where a file of a local folder lies, behind all links.

    Raises:
        RejectedError: if it is a link out of the folder or one that is broken, or not a regular file.
    """
    try:
        real = Path(os.path.realpath(f"{folder}/{path}", strict=True))
        if not real.is_relative_to(Path(folder).resolve()):
            raise RejectedError("open", _OUTSIDE)
        if not stat.S_ISREG(real.stat().st_mode):  # Reading a pipe would wait for ever.
            raise RejectedError("open", "it is not a regular file")
    except OSError as error:
        raise RejectedError("open", f"it cannot be opened: {error.strerror}") from error
    return real


def read_local(file: Path, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """The bytes of a regular file, wherever it or a link to it lies.

    Raises:
        RejectedError: it cannot be opened, is no regular file, or is too large.
    """
    try:
        real = file.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        reason = error.strerror if isinstance(error, OSError) else "a link that leads to itself"
        raise RejectedError("open", f"it cannot be opened: {reason}") from error
    return read_file(str(real.parent), real.name, limits)


def read_whole(folder: str, name: str) -> bytes:
    """The bytes of a file that describes the data, such as metadata.csv.

    Raises:
        InputError: if it is not there, or if it is local, for what `regular_file` rejects or without permission.
    """
    where = f"{folder}/{name}"
    try:
        if is_remote(folder):
            with open_remote(where) as file:
                return file.read()
        if not os.path.lexists(where):
            raise InputError(f"There is no {where}.")
        return regular_file(folder, name).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"There is no {where}.") from error
    except PermissionError as error:
        raise InputError(f"{where} cannot be read: {error.strerror}.") from error
    except RejectedError as error:
        raise InputError(f"{where} cannot be read: {error.reason}.") from error


def open_remote(url: str):
    """A remote file, open for reading bytes as they are, whatever its name ends in."""
    from apache_beam.io.filesystem import CompressionTypes

    return _file_systems().open(url, compression_type=CompressionTypes.UNCOMPRESSED)


def _file_systems():
    """Beam's file systems; outside of a Beam pipeline that for s3:// would lack the options it insists on."""
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.options.value_provider import RuntimeValueProvider

    if FileSystems._pipeline_options is None and RuntimeValueProvider.runtime_options is None:
        FileSystems.set_options(PipelineOptions([]))
    return FileSystems


def some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def printable(name: str) -> str:
    """The name itself, or with its bytes that are not UTF-8 spelt out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def is_remote(folder: str) -> bool:
    """Whether it is a URL and not a path of this machine."""
    return "://" in folder


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _IGNORED
