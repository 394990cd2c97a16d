"""Which files are to be classified: what folders hold, and names as people type them or pipe them in."""

from __future__ import annotations

import codecs
import glob
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from components.ingestion.file_names import is_no_picture, passed_over
from core.errors import InputError


def expand(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """Folders as the files in and below them, sorted by path; all else as it is.

    What a folder holds and cannot be looked into, such as a folder without permission or behind a link, comes as a
    name, so that it is not lost without a word.
    """
    for given in paths:
        path = os.fspath(given)
        if path and Path(path).is_dir():
            yield from (str(Path(path, *parts)) for parts in sorted(_inside(path)) if not parts or is_wanted(parts))
        else:
            yield path


def _inside(folder: str) -> Iterator[tuple[str, ...]]:
    """The parts of the paths of all files in and below a folder, and of folders that are not entered."""
    closed: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=closed.append):
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from ((*Path(place).relative_to(folder).parts, name) for name in (*files, *links))
    yield from (Path(error.filename).relative_to(folder).parts for error in closed)


def is_wanted(parts: Sequence[str]) -> bool:
    """Whether a file of a folder, by its path in it, is to be classified.

    Not if it is hidden, left behind by a system, or by its name no picture, such as metadata.csv or a video.
    """
    return not any(map(passed_over, parts)) and not is_no_picture(parts[-1])


def listed(data: bytes) -> list[str]:
    """The names of files in a list, one a line, or between NULs as `find -print0` writes them.

    Lines without a name are none. Blanks around a name, and the CR that Windows ends lines with, are taken off unless
    there is a file whose name has them. Bytes need not be UTF-8; what begins with a BOM is UTF-8 or UTF-16.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.decode("utf-16", "replace").encode()
    separator = b"\0" if b"\0" in data else b"\n"
    lines = [os.fsdecode(line) for line in data.removeprefix(codecs.BOM_UTF8).split(separator)]
    return [_of_file(line) for line in lines if line.strip()]


def _of_file(line: str) -> str:
    return next((name for name in (line, line.removesuffix("\r")) if os.path.lexists(name)), line.strip())


def words(text: str) -> list[str]:
    """The names in a text as a shell would split it: at blanks, but not within quotes; `*`, `?` and `[…]` match files.

    A text, or a word, that is the name of a file or folder stands for that, whatever is in it.

    Raises:
        InputError: a quote is not closed.
    """
    if os.path.lexists(text):
        return [text]
    try:
        found = shlex.split(text)
    except ValueError:
        raise InputError(
            f"IMAGES is {text!r}, in which a quote is not closed; put names with quotes or blanks into quotes of the "
            "other kind"
        ) from None
    return [name for word in found for name in _matching(word)]


def _matching(word: str) -> list[str]:
    if os.path.lexists(word):
        return [word]
    return sorted(glob.glob(word)) or [word]  # noqa: PTH207 - absolute patterns, too
