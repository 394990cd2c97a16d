"""The files below a data folder, local or remote: which there are, how to tell that one changed, and their bytes.

Remote folders (`gs://`, `s3://`) are read through Beam's file systems: one listing call for the whole tree, where TFX's
`fileio` would ask for every file, and TensorFlow's reads no `s3://` at all.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from components.ingestion.image_reading import RejectedError
from core.errors import InputError
from core.image_limits import DEFAULT_LIMITS, ImageLimits

METADATA_NAMES = ("metadata.csv", "metadata.tsv", "metadata.jsonl")
"""Ignored in the data folder even where no setting names them: the image-folder convention's names."""

_IGNORED = ("Thumbs.db", "desktop.ini")  # What Windows leaves behind; `.DS_Store` and the like start with a dot.
_OUTSIDE = "it is a link out of the data folder"
_NEEDS = {
    "gs": "gs:// needs Google's application default credentials.",
    "s3": "s3:// needs the extra `aws` (uv sync --extra aws) and credentials where boto3 looks for them.",
}
_SHOWN = 5


class ListedFile(NamedTuple):
    """One file below the data folder, as far as it is known without opening it.

    Attributes:
        path: relative to the data folder, with `/`.
        state: size and time of change, for the fingerprint.
        label: the class that the layout gives it, as the split.
    """

    path: str
    state: str = ""
    problem: str = ""
    label: str = ""
    split: str = ""


class Tree(NamedTuple):
    """All that is below a data folder, sorted by path; `ignored` are hidden, or what Windows leaves behind."""

    files: list[ListedFile]
    folders: list[str]
    ignored: int


def walk(folder: str) -> Tree:
    """Lists everything below a folder; nothing is opened.

    Links within the folder are followed; those that lead out of it, or back to a folder they are in, have a problem.

    Raises:
        InputError: there is no such folder, or one in it cannot be listed or has a name that is not UTF-8.
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
            named = printable(item.name) == item.name
            try:
                info = item.stat()
            except OSError as error:  # A broken link; reading it says why.
                files.append(ListedFile(path, str(error.strerror)))
                continue
            if not stat.S_ISDIR(info.st_mode):
                problem = "" if named else "its name is not UTF-8"
                files.append(ListedFile(path, f"{info.st_size} {info.st_mtime_ns}", problem))
                continue
            if not named:
                raise InputError(f"The folder {path} in {folder} has a name that is not UTF-8. Rename it.")
            real = os.path.realpath(item.path)
            if not Path(real).is_relative_to(root):
                files.append(ListedFile(path, problem=_OUTSIDE))
            elif real in real_folders:
                files.append(ListedFile(path, problem="it is a link to a folder it is in"))
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
    files: list[ListedFile] = []
    folders: set[str] = set()
    hidden: set[str] = set()
    for item in found.metadata_list:
        path = item.path.removeprefix(root)
        parts = path.split("/")
        depth = next((depth for depth, part in enumerate(parts, 1) if _is_hidden(part)), None)
        if depth is not None:
            hidden.add("/".join(parts[:depth]))
            continue
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
        if parts[-1]:  # An object whose name ends in `/` stands for a folder.
            files.append(ListedFile(path, f"{item.size_in_bytes} {item.last_updated_in_seconds}"))
    if not files:
        raise InputError(f"The data folder {folder} does not exist, or is empty.")
    return Tree(sorted(files), sorted(folders), len(hidden))


def _cause(error: BaseException) -> str:
    """What a store said, out of the errors that Beam puts around it."""
    within = getattr(error, "exception_details", None) or {}
    return next((_cause(one) for one in within.values() if isinstance(one, BaseException)), str(error).rstrip("."))


def fingerprint(folder: str, files: Sequence[ListedFile], read: Iterable[str] = ()) -> str:
    """A text that changes when any file is added, removed, renamed, moved to another class or rewritten.

    TFX's own adds up sizes and full seconds: it does not see an image that moved to another class. The files `read`,
    which describe the data, count by their content.
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.path}\0{file.state}\n".encode())
    for name in read:
        digest.update(read_bytes_of(folder, name))
    return f"files:{len(files)},sha256:{digest.hexdigest()}"


def read_file(folder: str, path: str, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """The bytes of one file, at most one more than allowed; a local file that is larger is a RejectedError."""
    with open_file(folder, path) as file:
        if is_remote(folder):
            return file.read(limits.file_bytes + 1)
        with opening():
            size = os.fstat(file.fileno()).st_size
            if size > limits.file_bytes:
                raise RejectedError("limits", f"{size:,} bytes are more than {limits.max_file_mb:g} MB")
            return file.read()


def open_file(folder: str, path: str) -> BinaryIO:
    """A file below the data folder, open for reading its bytes as they are, whatever its name ends in.

    Raises:
        RejectedError: a local file is a link out of the folder, not a regular file, or cannot be opened. That a remote
            store does not answer says nothing about the file, so such errors are raised as they are, and stop the run
            once Beam has retried.
    """
    if is_remote(folder):
        from apache_beam.io.filesystem import CompressionTypes

        return _file_systems().open(f"{folder}/{path}", compression_type=CompressionTypes.UNCOMPRESSED)
    with opening():
        real = Path(os.path.realpath(f"{folder}/{path}", strict=True))
        if not real.is_relative_to(Path(folder).resolve()):
            raise RejectedError("open", _OUTSIDE)
        mode = real.stat().st_mode
        if not stat.S_ISREG(mode):  # Reading a pipe would wait for ever.
            raise RejectedError("open", "it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file")
        return real.open("rb")


def read_anywhere(location: str, limits: ImageLimits) -> bytes:
    """As `read_file`, for a path or URL outside of any data folder, or a link; whatever fails is a RejectedError."""
    with opening():
        real = location if is_remote(location) else os.path.realpath(location, strict=True)
        return read_file(*os.path.split(real), limits)


@contextlib.contextmanager
def opening() -> Iterator[None]:
    """Errors of a file as reasons to reject it."""
    try:
        yield
    except OSError as error:  # Beam's BeamIOError is one, without strerror
        reason = "a link that leads to itself" if error.errno == errno.ELOOP else error.strerror or error
        raise RejectedError("open", f"it cannot be opened: {reason}") from error


def read_bytes_of(folder: str, name: str) -> bytes:
    """The bytes of a file that describes the data, such as metadata.csv. Raises InputError if it cannot be read."""
    where = f"{folder}/{name}"
    if not is_remote(folder) and not os.path.lexists(where):
        raise InputError(f"There is no {where}.")
    try:
        with opening(), open_file(folder, name) as file:
            return file.read()
    except RejectedError as error:
        raise InputError(f"{where} cannot be read: {error.reason}.") from error


def read_text(folder: str, name: str) -> str:
    """The text of such a file. Raises InputError also if it is not UTF-8."""
    try:
        return read_bytes_of(folder, name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{folder}/{name} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error


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
