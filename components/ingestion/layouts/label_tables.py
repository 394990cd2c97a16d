"""Which tables in a data folder describe its images, and what a run says about the others."""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence
from typing import NamedTuple

from components.ingestion.image_folder import METADATA_NAMES
from components.ingestion.layouts.image_metadata import LabelTable, UnclearSplitsError, why_not
from components.ingestion.layouts.listing import AUTO, METADATA
from components.ingestion.layouts.named_files import FileNames
from components.ingestion.layouts.source import Source
from components.ingestion.layouts.split_names import split_called
from components.ingestion.layouts.tables import ENDINGS
from core.errors import InputError, some

_OTHER_TABLES = (".xlsx", ".xls", ".ods", ".parquet", ".json")


class LabelTables(NamedTuple):
    """The tables in a data folder: those with labels, those with other columns, and remarks about the rest."""

    labeled: list[LabelTable]
    others: list[LabelTable]
    notes: list[str]


def is_table(path: str) -> bool:
    """Whether a file is a table, by its extension."""
    return path.lower().endswith(ENDINGS)


def read_tables(source: Source, files: FileNames) -> LabelTables:
    """Reads the metadata file that is named, or those with the usual name; otherwise any top-level tables."""
    told = source.config.metadata
    paths = [file.path for file in source.tree.files]
    if told:
        names = [path for path in paths if path == told]
        names = names or [path for path in paths if path.endswith(f"/{told}")]
        if not names:
            elsewhere = told.startswith("/") or ".." in told.split("/")
            raise InputError(
                f"data.metadata is {told}, and names a file in {source.path}: give a folder that holds the "
                "images and that file as the data folder."
                if elsewhere
                else f"There is no {source.path}/{told}. Write it, or set data.metadata to null."
            )
    else:
        names = [path for path in paths if path.rsplit("/", 1)[-1].lower() in METADATA_NAMES]
    found = [LabelTable(source.path, name, source.config.columns, files) for name in names]
    _check_one_each(source, found)
    unread = [path for path in paths if "/" not in path and path.lower().endswith(_OTHER_TABLES)]
    it = ("it", "it") if len(unread) == 1 else ("a table of labels", "that")
    notes = [f"not read: {some(unread)}; save {it[0]} as CSV to have {it[1]} read"] if unread else []
    if found:
        unclear = [table for table in found if table.file_name is None or (not told and table.is_empty())]
        if told and unclear:
            raise InputError(f"{source.path}: {why_not(unclear[:1])[0]}.")
        notes += [f"not used: {reason}" for reason in why_not(unclear)]
        found = [table for table in found if table not in unclear]
        labeled = [table for table in found if table.label is not None]
        others = [table for table in found if table.label is None]
        if labeled or others:
            beside = [path for path in paths if "/" not in path and is_table(path) and path not in names]
            notes += [f"not used: {path}, as {names[0]} is read; data.metadata names another" for path in beside]
            return LabelTables(labeled, others, notes)
    return _read_other_tables(source, files, notes)


def _read_other_tables(source: Source, files: FileNames, notes: list[str]) -> LabelTables:
    """Reads tables with other names: at the top level, or in folders named like splits, if they name images."""
    paths = [file.path for file in source.tree.files if is_table(file.path)]
    paths = [path for path in paths if path.rsplit("/", 1)[-1].lower() not in METADATA_NAMES]
    names = [path for path in paths if "/" not in path] or [
        path for path in paths if path.count("/") == 1 and split_called(path.split("/")[0])
    ]
    if source.config.layout == AUTO and not names:
        _check_tables_within(source, files, paths)
    labeled, others, strange, unlabeled, errors = [], [], [], [], []
    for name in names:
        try:
            table = LabelTable(source.path, name, source.config.columns, files)
        except InputError as error:
            if not source.tree.folders or source.config.layout == METADATA or isinstance(error, UnclearSplitsError):
                raise
            notes.append(f"not used: {error}")
            errors.append(error)
            continue
        if not table.names_images():
            strange.append(table)
        elif table.label is not None:
            labeled.append(table)
        elif table.split is not None:
            others.append(table)
        else:
            _check_not_numbered(source, table)
            unlabeled.append(table)
    notes += [f"not used: {reason}" for reason in why_not(strange)]
    slices = f"; data.metadata: {unlabeled[0].name} makes slices of the columns" if unlabeled else ""
    notes += [f"not used: {reason}{slices}" for reason in why_not(unlabeled)]
    if source.config.columns and errors and not labeled + others:  # what the settings name must not be skipped
        raise errors[0]
    _check_one_each(source, labeled)
    return LabelTables(labeled, others, notes)


def _check_tables_within(source: Source, files: FileNames, paths: Sequence[str]) -> None:
    """Raises InputError if the folders are batches of images with a table of labels in each."""
    within = [path for path in paths if path.count("/") == 1]
    if len(within) > len(source.tops):  # one for each picture
        return
    for path in within:
        try:
            table = LabelTable(source.path, path, source.config.columns, files)
        except InputError:  # of something else
            continue
        folder, _, name = path.rpartition("/")
        if table.label is None or table.folder != folder or not table.names_images():
            continue
        if len(table.values(table.label)) > 1:
            raise InputError(
                f"{source.path}: {path} gives the images in its folder several labels. Set data.metadata to {name} to "
                "have these read, in every folder; if the folders are the classes, set data.layout to class_folders."
            )


def _check_not_numbered(source: Source, table: LabelTable) -> None:
    """Raises InputError if a table without labels names parts of an archive, such as `images_part_1`."""
    alike = {re.sub(r"\d+", "", name) for name in source.tops}
    if source.config.layout == AUTO and len(source.tops) > 1 and len(alike) == 1 and any(map(str.isalpha, alike.pop())):
        raise InputError(
            f"{source.path}: the folders {some(source.tops)} differ in their numbers only, and {table.name} names the "
            f"images in them; its columns are {some(table.named_columns)}. If one of these holds the labels, set "
            "data.columns.label to it; if the folders are the classes, set data.layout to class_folders."
        )


def _check_one_each(source: Source, tables: Sequence[LabelTable]) -> None:
    """Raises InputError if two tables describe the same folder, unless they are named after different splits."""
    places = {table: (table.name.rpartition("/")[0], table.own_split) for table in tables}
    for where, times in collections.Counter(places.values()).items():
        names = [table.name for table in tables if places[table] == where]
        same = [table.name for table in tables if places[table][0] == where[0]]
        if times > 1 or (not where[1] and len(same) > 1):
            raise InputError(
                f"{source.path} holds several tables of images, {some(same if times == 1 else names)}. Name the one to "
                f"read in data.metadata, as data.metadata: {same[-1]}."
            )
