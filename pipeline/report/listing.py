"""Long lists: the page shows their first rows, and contains all of them as a CSV file."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from core.csv_cells import as_text
from pipeline.runs.comparison import flattened

ROWS = 100  # of one table on the page
_CSV_BYTES = 2**20  # of one file in the page; a thousand slices take a quarter

Row = TypeVar("Row")


@dataclasses.dataclass(frozen=True)
class Listing(Generic[Row]):
    """The rows to show, their total, and a data URI of a CSV file with all of them; None if all are shown."""

    rows: list[Row]
    of: int
    csv: str | None


def listing(rows: Sequence[Row], values: Callable[[Row], Mapping[str, Any]]) -> Listing[Row]:
    """A listing of rows, most important first; `values` gives a row's values for the file, nested or not."""
    return Listing(list(rows[:ROWS]), len(rows), _csv(rows, values) if len(rows) > ROWS else None)


def _csv(rows: Sequence[Row], values: Callable[[Row], Mapping[str, Any]]) -> str:
    """Bounded in size: of a hundred thousand classes it contains the first."""
    text = io.StringIO()
    write = csv.writer(text).writerow
    write([name for name, _ in flattened(values(rows[0]))])
    for number, row in enumerate(rows):
        if text.tell() > _CSV_BYTES:
            write([f"and {len(rows) - number:,} more"])
            break
        write([_cell(value) for _, value in flattened(values(row))])
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(text.getvalue().encode()).decode("ascii")


def _cell(value: object) -> object:
    if isinstance(value, str):
        return as_text(value)
    return f"{value:.6g}" if isinstance(value, float) else value
