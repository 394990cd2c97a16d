"""metadata.csv or metadata.jsonl: what is known of each image, as its label and as further slices of the evaluation.

The convention is that of Hugging Face's ImageFolder (https://huggingface.co/docs/datasets/image_dataset): a column
`file_name`, relative to the data folder, and any other columns.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

from components.ingestion import slice_features
from components.ingestion.image_folder import read_bytes_of, read_text, some
from core.errors import InputError

LABEL_COLUMN = "label"
_PATH = "file_name"
_JSON_LINES = ".jsonl"


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What the metadata file says: the columns but `file_name`, and path -> column -> value."""

    columns: tuple[str, ...] = ()
    rows: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    def values(self, path: str) -> dict[str, str]:
        """Column -> value for one file; empty where the file has no row, or its row not that column."""
        row = self.rows.get(path, {})
        return {column: row.get(column, "") for column in self.columns}


def read_metadata(folder: str, name: str, known: Iterable[str]) -> Metadata:
    """Reads a metadata file: `.jsonl` has a JSON object a line, any other is CSV; an empty `name` means there is none.

    Raises:
        InputError: the file is missing, not UTF-8 or neither, lacks `file_name`, names a file twice or one that is not
            among the `known` paths, or has a column without a name, or one called like another or like one of
            `slice_features.NAMES`.
    """
    if not name:
        return Metadata()
    where = f"{folder}/{name}"
    read = _read_json_lines if name.endswith(_JSON_LINES) else _read_csv
    header, lines = read(where, read_text(folder, name))
    _check_columns(where, header)
    rows: dict[str, dict[str, str]] = {}
    for number, values in lines:
        if len(values) != len(header):
            raise InputError(f"{where}, line {number}: {len(values)} fields; the first line has {len(header)}.")
        row = dict(zip(header, values, strict=True))
        path = os.path.normpath(row.pop(_PATH).replace("\\", "/"))
        if path in rows:
            raise InputError(f"{where}, line {number}: a second row for {path}.")
        rows[path] = row
    missing = sorted(rows.keys() - set(known))
    if missing:
        raise InputError(
            f"{where} names {len(missing)} files that are not in the data folder: {some(missing)}. {_PATH} is "
            "relative to the data folder, e.g. <class name>/<file>."
        )
    return Metadata(tuple(column for column in header if column != _PATH), rows)


def has_labels(folder: str, name: str) -> bool:
    """Whether a file that may be metadata has the columns `file_name` and `label`, by its first line."""
    first = read_bytes_of(folder, name).decode("utf-8-sig", "replace").split("\n", 1)[0]
    try:
        columns = json.loads(first) if name.endswith(_JSON_LINES) else next(csv.reader([first]), [])
    except (ValueError, RecursionError, csv.Error):
        return False
    return isinstance(columns, dict | list) and {_PATH, LABEL_COLUMN} <= set(columns)


_Table = tuple[list[str], list[tuple[int, list[str]]]]  # the columns, and of each row its line and its values


def _read_csv(where: str, text: str) -> _Table:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise InputError(f"{where}, line {reader.line_num}: not CSV: {error}.") from error
    return (rows[0][1] if rows else []), rows[1:]


def _read_json_lines(where: str, text: str) -> _Table:
    """The columns are the keys of all lines; a key that a line lacks is empty there."""
    records: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}, line {number}: not JSON: {error}.") from error
        if not isinstance(record, dict) or not isinstance(record.get(_PATH), str):
            raise InputError(f"{where}, line {number}: not an object with a text {_PATH}.")
        records.append((number, record))
    columns = list(dict.fromkeys(key for _, record in records for key in record)) or [_PATH]
    return columns, [(n, [_as_text(where, n, record.get(name)) for name in columns]) for n, record in records]


def _as_text(where: str, number: int, value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int | float):  # and so bool: written as JSON writes it
        return json.dumps(value)
    raise InputError(f"{where}, line {number}: {json.dumps(value)[:60]} is neither text nor a number.")


def _check_columns(where: str, columns: Sequence[str]) -> None:
    if _PATH not in columns:
        raise InputError(f"{where} has no column {_PATH}; its first line is {','.join(columns)!r}.")
    taken = set(slice_features.NAMES) & set(columns)
    if taken or "" in columns or len(set(columns)) < len(columns):
        raise InputError(
            f"The columns of {where} ({', '.join(columns)}) must have a name each, no two the same, and none of "
            f"{', '.join(slice_features.NAMES)}, which every image has already."
        )
