"""Files and directories that appear whole or not at all, on local and remote file systems."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from core.errors import InputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A local UTF-8 file that takes `path`'s place when the block ends; if it raises, the old file stays.

    Lone surrogates, which file names may hold, are written as escapes; line ends are written as they are.

    Raises:
        InputError: `path` is something else than a regular file, such as a device or a folder.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a regular file: give another name to write to")
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Replaces a file's content in one step; `path` is local or any that TensorFlow's file system writes."""
    if "://" not in str(path):
        with replacing(Path(path)) as file:
            file.write(text)
        return
    import tensorflow as tf

    partial = f"{path}.partial-{uuid.uuid4().hex}"
    with tf.io.gfile.GFile(partial, "w") as file:
        file.write(text)
    tf.io.gfile.rename(partial, str(path), overwrite=True)


def read_text(path: str | Path) -> str:
    """A UTF-8 file's content, local or remote.

    Raises:
        OSError: a local file cannot be read; tf.errors.OpError for a remote one.
    """
    if "://" not in str(path):
        return Path(path).read_text(encoding="utf-8")
    import tensorflow as tf

    with tf.io.gfile.GFile(str(path)) as file:
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
