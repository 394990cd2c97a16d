"""Files and directories that appear complete or not at all, on local and remote file systems."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, TextIO

from core.errors import InputError


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[TextIO]:
    """A UTF-8 file that takes `path`'s place when the block ends; if it raises, the old file stays.

    Lone surrogates, which local file names may hold, are written as escapes; line ends are written as they are.

    Raises:
        InputError: `path` is something else than a regular file, such as a device or a folder.
    """
    if "://" in str(path):
        with _replacing_remote(str(path)) as remote:
            yield remote
        return
    path = Path(path)
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a regular file: give another name to write to")
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _replacing_remote(path: str) -> Iterator[TextIO]:
    import tensorflow as tf

    partial = f"{path}.partial-{uuid.uuid4().hex}"
    try:
        with tf.io.gfile.GFile(partial, "w") as file:
            file.write("")  # TensorFlow makes no file where nothing is written
            yield file
        tf.io.gfile.rename(partial, path, overwrite=True)
    finally:
        if tf.io.gfile.exists(partial):
            tf.io.gfile.remove(partial)


def write_text(path: str | Path, text: str) -> None:
    """Replaces a file's content in one step; see `replacing`."""
    with replacing(path) as file:
        file.write(text)


def open_file(path: str | Path, mode: Literal["r", "rb", "wb"] = "r") -> IO[Any]:
    """Opens a file, local or remote. Text is UTF-8, and its line ends are read as they are.

    Raises:
        OSError: a local file cannot be opened; tf.errors.OpError for a remote one.
    """
    if "://" not in str(path):
        return Path(path).open(mode) if "b" in mode else Path(path).open(mode, encoding="utf-8", newline="\n")
    import tensorflow as tf

    return tf.io.gfile.GFile(str(path), mode)


def read_text(path: str | Path) -> str:
    """All that `open_file` gives."""
    with open_file(path) as file:
        return file.read()


@contextlib.contextmanager
def staging_directory(target: str) -> Iterator[str]:
    """A new, empty directory beside `target`; `publish` what is finished before the block ends.

    Whatever is left of it at the end, as after an error, is deleted.
    """
    import tensorflow as tf

    directory = f"{target.rstrip('/')}.unfinished-{uuid.uuid4().hex}"
    tf.io.gfile.makedirs(directory)
    try:
        yield directory
    finally:
        if tf.io.gfile.exists(directory):
            tf.io.gfile.rmtree(directory)


def publish(finished: str, target: str) -> None:
    """Moves a directory to `target`, and replaces what is there."""
    import tensorflow as tf

    target = target.rstrip("/")
    if tf.io.gfile.exists(target):
        tf.io.gfile.rmtree(target)
    tf.io.gfile.rename(finished, target)
