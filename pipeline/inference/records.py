"""Records of classified images (see `predict.classify`) as lines of text: JSON lines or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TextIO

from core.csv_cells import as_text

Format = Literal["jsonl", "csv"]


class Counts(NamedTuple):
    """Records that were written, and how many of them hold an error."""

    records: int
    errors: int


def write(found: Iterable[dict[str, Any]], target: TextIO, file_format: Format, top_k: int) -> Counts:
    """Writes records one by one, as they come."""
    head = header(file_format, top_k)
    if head is not None:
        target.write(f"{head}\n")
    count = errors = 0
    for record in found:
        target.write(f"{line(record, file_format, top_k)}\n")
        count += 1
        errors += "error" in record
    return Counts(count, errors)


def header(file_format: Format, top_k: int) -> str | None:
    """The line before the first record, without its end; None where the format has none.

    No name is a formula to a spreadsheet: `core.csv_cells`.

    CSV has the columns `path`, `class`, `probability`, for each class of `top_k` `class_1`, `probability_1` and so on,
    `novelty`, `reason` and `error`. A class that is withheld is in `class_1` only.
    """
    if file_format == "jsonl":
        return None
    more = [f"{name}_{rank}" for rank in range(1, top_k + 1) for name in ("class", "probability")]
    return _csv(["path", "class", "probability", *more, "novelty", "reason", "error"])


def line(record: dict[str, Any], file_format: Format, top_k: int) -> str:
    """A record without the line's end; CSV leaves empty what a record lacks."""
    if file_format == "jsonl":
        return json.dumps(record, ensure_ascii=False)
    more = [cell for one in record.get("top_k", []) for cell in (one["class"], one["probability"])]
    blanks = [""] * (2 * top_k - len(more))
    first, last = (
        [record.get(name, "") for name in names]
        for names in (("path", "class", "probability"), ("novelty", "reason", "error"))
    )
    return _csv([*first, *more, *blanks, *last])


def _csv(cells: list[Any]) -> str:
    target = io.StringIO()
    csv.writer(target, lineterminator="").writerow(as_text(cell) if isinstance(cell, str) else cell for cell in cells)
    return target.getvalue()
