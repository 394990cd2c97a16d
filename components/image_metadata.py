"""metadata.csv: what is known of each image beside its class, as further slices of the evaluation.

The convention is that of Hugging Face's ImageFolder (https://huggingface.co/docs/datasets/image_dataset): a column
`file_name`, relative to the data folder, and any other columns.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Iterable

from components import slice_features
from components.image_folder import read_metadata_bytes, some
from trainer.errors import InputError

_PATH = "file_name"


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What metadata.csv says.

    Attributes:
        columns: all but `file_name`, in order.
        rows: path relative to the data folder -> a value for each column.
    """

    columns: tuple[str, ...] = ()
    rows: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def values(self, path: str) -> dict[str, str]:
        """Column -> value for one file; every value is empty if the file has no row."""
        return dict(zip(self.columns, self.rows.get(path, ("",) * len(self.columns)), strict=True))


def read_metadata(folder: str, name: str, known: Iterable[str]) -> Metadata:
    """Reads a metadata file; an empty `name` means there is none.

    Args:
        folder: the data folder.
        name: the file's name in it.
        known: the paths of all files in the data folder, relative to it.

    Raises:
        InputError: if the file is missing or no UTF-8 CSV, lacks `file_name`, names a file that is not there or names
            one twice, or has a column without a name, or one called like another or like one of
            `slice_features.NAMES`.
    """
    if not name:
        return Metadata()
    where = f"{folder}/{name}"
    try:
        text = read_metadata_bytes(folder, name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    _check_header(where, header)
    at = header.index(_PATH)
    rows: dict[str, tuple[str, ...]] = {}
    for row in reader:
        if not row:
            continue
        if len(row) != len(header):
            raise InputError(f"{where}, line {reader.line_num}: {len(row)} fields; the first line has {len(header)}.")
        path = os.path.normpath(row[at].replace("\\", "/"))
        if path in rows:
            raise InputError(f"{where}, line {reader.line_num}: a second row for {path}.")
        rows[path] = (*row[:at], *row[at + 1 :])
    missing = sorted(rows.keys() - set(known))
    if missing:
        raise InputError(
            f"{where} names {len(missing)} files that are not in the data folder: {some(missing)}. {_PATH} is "
            "relative to the data folder, e.g. <class name>/<file>."
        )
    return Metadata((*header[:at], *header[at + 1 :]), rows)


def _check_header(where: str, header: list[str]) -> None:
    if _PATH not in header:
        raise InputError(f"{where} has no column {_PATH}; its first line is {','.join(header)!r}.")
    taken = set(slice_features.NAMES) & set(header)
    if taken or "" in header or len(set(header)) < len(header):
        raise InputError(
            f"The columns of {where} ({', '.join(header)}) must have a name each, no two the same, and none of "
            f"{', '.join(slice_features.NAMES)}, which every image has already."
        )
