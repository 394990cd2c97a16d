"""Files and directories that appear whole or not at all, on local and remote file systems."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def unfinished(target: str) -> Iterator[str]:
    """A new, empty directory beside `target` to write in; `replace` what is finished before the block ends.

    Whatever is left of it at the end, as after an error, is deleted.
    """
    directory = f"{target.rstrip('/')}.unfinished-{uuid.uuid4().hex}"
    tf.io.gfile.makedirs(directory)
    try:
        yield directory
    finally:
        if tf.io.gfile.exists(directory):
            tf.io.gfile.rmtree(directory)


def replace(finished: str, target: str) -> None:
    """Moves a directory to `target`, in the place of what may be there already."""
    target = target.rstrip("/")
    if tf.io.gfile.exists(target):
        tf.io.gfile.rmtree(target)
    tf.io.gfile.rename(finished, target)


def write(path: str, text: str) -> None:
    """Puts a text file in its place in one step: a process that is killed, or one that reads, never sees half of it."""
    partial = f"{path}.partial-{uuid.uuid4().hex}"
    with tf.io.gfile.GFile(partial, "w") as file:
        file.write(text)
    tf.io.gfile.rename(partial, path, overwrite=True)
