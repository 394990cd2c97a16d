"""Splits given by folders and tables, which must agree and include train."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from components.ingestion.image_folder import ListedFile
from components.ingestion.layouts.image_metadata import Rows
from components.ingestion.layouts.source import Source
from components.ingestion.layouts.split_names import split_called
from core.errors import InputError, some
from core.settings.data import SPLITS


def splits_of_folders(source: Source, paths: Sequence[str], column: bool, hint: str) -> dict[str, str]:
    """Folder -> split, if folders of labeled files are named like splits, at any depth."""
    folders = {path.rpartition("/")[0] for path in paths}
    parts = {folder: folder.split("/") if folder else [] for folder in folders}
    for depth in range(max(map(len, parts.values()), default=0)):
        name_of = {folder: names[depth] if len(names) > depth else "" for folder, names in parts.items()}
        called = {name: split_called(name) for name in set(name_of.values())}
        if all(called.values()):
            check_splits(source, called, hint)
            return {folder: called[name] for folder, name in name_of.items()}
        alike = sorted(name for name in called if called[name])
        if alike and not column:
            others = [name or "no such folder" for name in sorted(called.keys() - set(alike))]
            raise InputError(
                f"{source.path}: the folders {some(alike)} are called like splits, and other labeled files lie in "
                f"{some(others)}. Put all of them into train, val and test; or rename the folders; or give the table a "
                "column split."
            )
    return {}


def with_splits(
    source: Source, files: Iterable[ListedFile], by_folder: Mapping[str, str], rows: Rows
) -> list[ListedFile]:
    """The files with the splits that folders and tables give, which must agree."""
    if not by_folder and not rows.splits:
        return list(files)
    placed, against = [], []
    for file in files:
        said, lies = rows.splits.get(file.path, ""), by_folder.get(file.path.rpartition("/")[0], "")
        if said and lies and said != lies and not file.problem:
            against.append(f"{file.path}: {said} in {rows.lines[file.path]}")
        placed.append(file._replace(split=said or lies))
    if against:
        raise InputError(
            f"{source.path}: {len(against):,} files are of one split by their folder and of another by the metadata "
            f"({some(against)}). Make them agree, or set data.columns.split to null to go by the folders."
        )
    given = {file.split for file in placed if not file.problem} - {""}
    if not given:
        return placed
    check_splits(source, {split: split for split in given})
    return [
        file if file.split or file.problem else file._replace(problem="nothing says which split it belongs to")
        for file in placed
    ]


def check_splits(source: Source, called: Mapping[str, str], hint: str = "") -> None:
    """Raises InputError if train is missing, unless this is one span of several, or if a split occurs twice."""
    where = source.path
    names = sorted(called)
    for split in SPLITS:
        same = [name for name in names if called[name] == split]
        if len(same) > 1:
            raise InputError(
                f"{where}: {' and '.join(same)} both name the split {split}. Put their files into one folder, "
                "or pass over one of them with data.ignore."
            )
    if "train" not in called.values() and source.config.least_classes > 1:
        raise InputError(
            f"{where} gives the splits {', '.join(names)}, and no train. To split these images anew, "
            f"give the folder they are in as the data folder, or rename it. {hint}".rstrip()
        )
