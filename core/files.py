"""Files that are whole or not there at all: written under another name, then put in place in one step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from core.errors import InputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A UTF-8 file that takes `path`'s place when the block ends; if it raises, what stood there before still stands.

    Lone surrogates, which names of files may hold, are written as escapes; line ends are written as they are.

    Raises:
        InputError: there is something at `path` that is no regular file, such as a device or a folder.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a regular file: give another name to write to")
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)


def write(path: Path, text: str) -> None:
    """Replaces a file's content in one step; see `replacing`."""
    with replacing(path) as file:
        file.write(text)
