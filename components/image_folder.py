"""A folder of class folders of images: which files are in it, whether it is laid out right, and their bytes."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from tfx.dsl.io import fileio

from components.image_reading import MAX_FILE_BYTES, RejectedError
from trainer.errors import InputError

METADATA_NAME = "metadata.csv"
"""Ignored in the data folder even where it is not asked for: the image-folder convention's name."""

_IGNORED = ("Thumbs.db", "desktop.ini")  # What Windows leaves behind; `.DS_Store` and the like start with a dot.
_EXPECTED = "Expected <data folder>/<class name>/<image files>, two classes or more."
_SHOWN = 5


class ListedFile(NamedTuple):
    """One file that is to be read or rejected.

    Attributes:
        path: relative to the data folder, with `/`.
        label: the class folder's name; empty for a file beside the class folders.
        state: size and time of change, for the fingerprint.
        problem: why it cannot be read, known already from where it is or what it is called; else empty.
    """

    path: str
    label: str
    state: str
    problem: str = ""


class _Entry(NamedTuple):
    name: str
    is_folder: bool
    state: str


def list_files(folder: str, metadata: str = "", least_classes: int = 2) -> list[ListedFile]:
    """Every file of the data set, sorted by path: those in the class folders, and those that lie beside them.

    Hidden files (and what Windows leaves behind) and metadata.csv are ignored. Files beside the class folders and
    names that are not UTF-8 are listed with their problem. Nothing is opened.

    Args:
        folder: the data folder, local or of any file system TFX reads.
        metadata: name of the metadata file in it, which is ignored too.
        least_classes: how many classes it must hold.

    Raises:
        InputError: if there is no such folder, or it is not laid out as one folder per class.
    """
    if not fileio.isdir(folder):
        raise InputError(f"The data folder {folder} does not exist. {_EXPECTED}")
    entries = _entries(folder)
    ignored = {METADATA_NAME, metadata}
    beside = [entry for entry in entries if not entry.is_folder and entry.name not in ignored]
    classes = [entry.name for entry in entries if entry.is_folder]
    if not classes:
        raise InputError(f"{folder} holds {len(beside)} files and no folders. {_EXPECTED}")
    files = [ListedFile(printable(e.name), "", e.state, "it lies beside the class folders") for e in beside]
    for name in classes:
        if printable(name) != name or not name.isprintable() or name != name.strip():
            raise InputError(
                f"The class folder {name!r} in {folder} cannot name a class: give it a name in UTF-8, without line "
                "breaks and without blanks at its ends."
            )
        files.extend(_list_class(folder, name))
    if len(classes) < least_classes:
        raise InputError(f"{folder} holds only one class folder, {classes[0]}. {_EXPECTED}")
    return sorted(files)


def _list_class(folder: str, name: str) -> list[ListedFile]:
    entries = _entries(f"{folder}/{name}")
    nested = [entry.name for entry in entries if entry.is_folder]
    if nested:
        raise InputError(
            f"The class folder {name} in {folder} holds folders itself ({some(nested)}). {_EXPECTED} Move the images "
            f"up into {name}, or give the folder above the classes as the data folder."
        )
    if not entries:
        raise InputError(f"The class folder {name} in {folder} holds no files. Fill it or remove it. {_EXPECTED}")
    files = []
    for entry in entries:
        shown = printable(entry.name)
        problem = "" if shown == entry.name else "its name is not UTF-8"
        files.append(ListedFile(f"{name}/{shown}", name, entry.state, problem))
    return files


def _entries(folder: str) -> list[_Entry]:
    """What is in a folder and not to be ignored; links are followed, broken ones listed."""
    entries = []
    if _is_local(folder):
        try:
            items = list(os.scandir(folder))
        except PermissionError as error:
            raise InputError(f"The folder {folder} cannot be listed: {error.strerror}.") from error
        for item in items:
            try:
                info = item.stat()
            except OSError as error:  # A broken link; reading it says why.
                entries.append(_Entry(item.name, False, str(error.strerror)))
            else:
                state = f"{info.st_size} {info.st_mtime_ns}"
                entries.append(_Entry(item.name, stat.S_ISDIR(info.st_mode), state))
    else:
        for name in fileio.listdir(folder):
            path = f"{folder}/{name}"
            is_folder = name.endswith("/") or fileio.isdir(path)
            size_and_time = None if is_folder else fileio.stat(path)
            state = f"{size_and_time.length} {size_and_time.mtime_nsec}" if size_and_time else ""
            entries.append(_Entry(name.rstrip("/"), is_folder, state))
    return sorted(e for e in entries if not e.name.startswith(".") and e.name not in _IGNORED)


def fingerprint(folder: str, files: list[ListedFile], metadata: str = "") -> str:
    """A text that changes when any file is added, removed, renamed, moved to another class or rewritten.

    TFX's own adds up sizes and whole seconds: it does not see an image that moved to another class.
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.path}\0{file.state}\n".encode())
    if metadata:
        digest.update(read_metadata_bytes(folder, metadata))
    return f"files:{len(files)},sha256:{digest.hexdigest()}"


def read_file(folder: str, path: str) -> bytes:
    """The bytes of one file, at most `MAX_FILE_BYTES` and one more.

    Raises:
        RejectedError: if it is a link out of the data folder, not a regular file, too large, or cannot be opened.
    """
    name = f"{folder}/{path}"
    if not _is_local(folder):
        with fileio.open(name, "rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    try:
        real = Path(os.path.realpath(name, strict=True))
        if not real.is_relative_to(Path(folder).resolve()):
            raise RejectedError("open", "it is a link out of the data folder")
        info = real.stat()
        if not stat.S_ISREG(info.st_mode):  # Reading a pipe would wait for ever.
            raise RejectedError("open", "it is not a regular file")
        if info.st_size > MAX_FILE_BYTES:
            raise RejectedError("limits", f"{info.st_size} bytes are more than {MAX_FILE_BYTES // 2**20} MB")
        return real.read_bytes()
    except OSError as error:
        raise RejectedError("open", f"it cannot be opened: {error.strerror}") from error


def read_metadata_bytes(folder: str, metadata: str) -> bytes:
    """The metadata file's bytes. Raises InputError if it is not there."""
    where = f"{folder}/{metadata}"
    if not fileio.exists(where):
        raise InputError(f"There is no {where}. Write it, or set data.metadata to null.")
    with fileio.open(where, "rb") as file:
        return file.read()


def some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def printable(name: str) -> str:
    """The name itself, or with its bytes that are not UTF-8 spelt out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _is_local(folder: str) -> bool:
    return "://" not in folder
