"""Which file a row in a table means: people write absolute paths, another case, no extension, or only the last part."""

from __future__ import annotations

import collections
import functools
import unicodedata
import urllib.parse
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from components.ingestion.file_names import IgnorePatterns
from components.ingestion.layouts.split_names import split_called
from core.errors import some


class Found(NamedTuple):
    """The file that a name means.

    Attributes:
        path: relative to the data folder; empty if there is none.
        exact: whether the name is this path, or this path relative to the table.
        above: the folders before the part of the name that matches, such as `/home/a/birds`.
        problem: why there is no file.
    """

    path: str = ""
    exact: bool = True
    above: str = ""
    problem: str = ""


class FileNames:
    """Finds files by their names in a table; an index is made only when a name is not a path.

    A name that is not a path matches a file if one of the two ends with the other, folder by folder, ignoring case,
    Unicode normal forms, and an extension that the row omits. So `/home/a/birds/owl/1.png` is `owl/1.png`, and so is
    `1`, but `robin/1.png` is never `owl/1.png`. A name that matches several files means none of them.
    """

    def __init__(self, paths: Iterable[str], ignore: IgnorePatterns | None = None) -> None:
        self._ignore = ignore or IgnorePatterns(())
        self._paths = frozenset(paths)
        self._folders = {path.rpartition("/")[0] for path in self._paths}
        for folder in list(self._folders):
            while folder := folder.rpartition("/")[0]:
                self._folders.add(folder)
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}

    @functools.cached_property
    def in_class_folders(self) -> bool:
        """Whether the files lie in several folders, not called like splits: these may be their classes."""
        holding = {path.rpartition("/")[0] for path in self._paths} - {""}
        return sum(not split_called(folder.rpartition("/")[2]) for folder in holding) > 1

    def nearest(self, folder: str, split: str) -> str:
        """The folder that a table in `folder` describes: the nearest that holds files, or a split's folder in it."""
        while folder and folder not in self._folders:
            folder = folder.rpartition("/")[0]
        tops = sorted({path.split("/")[0] for path in self._folders} - {""}) if split and not folder else []
        called = [top for top in tops if split_called(top) == split]
        return called[0] if len(called) == 1 else folder

    def find(self, name: str, folder: str = "") -> Found:
        """The file that a row of a table in a folder, relative to the data folder, calls `name`."""
        for path in (f"{folder}/{name}" if folder else name, name):
            if path in self._paths:
                return Found(path)
        tried = dict.fromkeys((_clean(name), _clean(urllib.parse.unquote(name.removeprefix("file://")))))
        for parts in tried:
            for start in (folder.split("/") if folder else [], []):
                path = "/".join(_joined([*start, *parts]))
                if path in self._paths:
                    return Found(path)
        self._index()
        for parts in tried:
            wanted = [_key(part) for part in _joined(parts)]
            for index in (self._by_name, self._by_stem):
                fitting, depth = self._fitting(index.get(wanted[-1] if wanted else "", ()), wanted, folder)
                if len(fitting) == 1:
                    return Found(fitting[0], False, "/".join(_joined(parts)[: len(wanted) - depth - 1]))
                if fitting:
                    return Found(problem=f"it may be any of {some(fitting)}")
        return Found(problem="there is no such file")

    def ignored_by(self, name: str, folder: str = "") -> str:
        """The pattern of `data.ignore` that ignores a file that is not found; "" if none does."""
        paths = ("/".join(_joined([*start, *_clean(name)])) for start in ((folder,) if folder else (), ()))
        return next(filter(None, map(self._ignore.reason, paths)), "")

    def like(self, name: str) -> str:
        """A file that `name` may have meant, for a message; "" if none is near."""
        self._index()
        last = _key((_clean(name) or ("",))[-1])
        stem = last.rsplit(".", 1)[0] or last
        near = self._by_name.get(last) or self._by_stem.get(stem) or self._by_stem.get(stem.zfill(self._width()))
        return near[0] if near else ""

    def _width(self) -> int:
        """How many characters a file's name has: Excel removes leading zeros from numbers."""
        return len(next(iter(self._by_stem), ""))

    def _fitting(self, candidates: Sequence[str], wanted: Sequence[str], folder: str) -> tuple[list[str], int]:
        """The candidates that agree with the name in the most folders, and in how many."""
        agreeing = collections.defaultdict(list)
        for path in candidates:
            within = path.removeprefix(f"{folder}/") if folder and path.startswith(f"{folder}/") else None
            for whole in (path,) if within is None else (path, within):
                above = [_key(part) for part in whole.split("/")[:-1]]
                most = min(len(above), len(wanted) - 1)
                shorter = len(wanted) - 1 < len(above)
                if above[len(above) - most :] == wanted[len(wanted) - 1 - most : -1] and not (
                    shorter and folder and within is None
                ):
                    agreeing[most].append(path)
                    break
        depth = max(agreeing, default=0)
        return agreeing[depth], depth

    def _index(self) -> None:
        if not self._by_name:
            for path in sorted(self._paths):
                name = _key(path.rsplit("/", 1)[-1])
                self._by_name.setdefault(name, []).append(path)
                self._by_stem.setdefault(name.rsplit(".", 1)[0], []).append(path)


def _clean(name: str) -> tuple[str, ...]:
    """The parts of a path, also of a Windows path."""
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _joined(parts: Sequence[str]) -> list[str]:
    """The path with any `..` resolved."""
    joined: list[str] = []
    for part in parts:
        if part != "..":
            joined.append(part)
        elif joined:
            joined.pop()
    return joined


def _key(part: str) -> str:
    return (part if part.isascii() else unicodedata.normalize("NFC", part)).casefold()
