"""Tables as Excel, pandas and people write them: CSV in its dialects and encodings, and JSON lines.

Nothing is guessed from statistics: the encoding follows from a byte-order mark or by elimination, and the separator is
the one that splits the first line into the column names being looked for.
"""

from __future__ import annotations

import codecs
import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from core.errors import InputError, some

JSON_LINES = (".jsonl", ".ndjson")
ENDINGS = (".csv", ".tsv", *JSON_LINES)

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MAX_NAME = 255  # characters of a column's
_MAX_VALUE = 1024  # as many as an object's name in a bucket has; longer ones would fill messages and the report
_BLANKS = re.compile(r'" +(?=[,;|\t\r\n])')  # which CSV does not allow after a quoted value
_MARKS = (  # UTF-32's little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose rows are parsed as they are read.

    Attributes:
        where: its path, for messages.
        columns: their names as written, without surrounding blanks; empty if a column has none.
        written: how it is written, for people: `semicolons, UTF-16`.
        rows: starts over; yields each row's line and values, as many as there are columns unless the row is faulty.
    """

    where: str
    columns: tuple[str, ...]
    written: str
    rows: Callable[[], Iterator[tuple[int, list[str]]]]


def read_table(where: str, data: bytes, fits: Callable[[Sequence[str]], int]) -> Table:
    """Reads a table.

    Args:
        where: its path.
        data: its bytes; `.jsonl` and `.ndjson` hold one JSON object per line, anything else is CSV.
        fits: how many of the columns being looked for are among these names.

    Raises:
        InputError: it is not text, not such a table, or two separators fit equally well.
    """
    text, encoding = _decode(where, data)
    if '" ' in text:
        text = _BLANKS.sub('"', text)
    if where.lower().endswith(JSON_LINES):
        records = list(_objects(where, text))
        every = dict.fromkeys(name for _, record in records for name in record)
        nested = {name for _, record in records for name, value in record.items() if isinstance(value, dict | list)}
        names = tuple(name for name in every if name not in nested)
        without = f", without {some(sorted(nested))}: lists and objects are no values" if nested else ""
        return Table(where, names, f"JSON lines, {encoding}{without}", lambda: _json_rows(where, records, names))
    first = io.StringIO(text, newline="").readline().strip()
    if first.lower().startswith("sep=") and len(first) == 5:  # Excel's own way to say it
        separator, skipped = first[4], 1
    else:
        separator, skipped = _separator(where, text, fits), 0
    header = next(_csv_rows(where, text, separator, skipped), None)
    names = tuple(header[1]) if header else ()
    while names and not names[-1]:
        names = names[:-1]
    _check_names(where, header[0] if header else 1, names)
    written = f"{_SEPARATORS.get(separator, separator)}, {encoding}"
    return Table(where, names, written, lambda: _body(where, text, separator, skipped, names))


def _decode(where: str, data: bytes) -> tuple[str, str]:
    for mark, codec, name in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(codec), name
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{where} begins as {name} does and is not (byte {error.start}). Save it as UTF-8."
                ) from error
    if b"\0" in data[:4096]:
        for codec, name in (("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16")):
            start = data[: 2 * 32]
            if len(data) % 2 == 0 and start[codec == "utf-16-le" :: 2].count(0) > len(start) // 4:
                try:
                    return data.decode(codec), name
                except UnicodeDecodeError:
                    break
        raise InputError(f"{where} is not text. Save it as CSV, in UTF-8.")
    try:
        return data.decode(), "UTF-8"
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        try:
            return data.decode("cp1252"), f"not UTF-8 (line {line}), read as Windows-1252"
        except UnicodeDecodeError as other:
            raise InputError(f"{where}, line {line}: neither UTF-8 nor Windows-1252. Save it as UTF-8.") from other


def _separator(where: str, text: str, fits: Callable[[Sequence[str]], int]) -> str:
    """The separator that yields the most of the columns being looked for, then the most columns."""
    found = {}
    for separator in _SEPARATORS:
        try:
            _, names = next(_csv_rows(where, text[: 2**16], separator, 0), (0, []))
        except InputError:  # not with this one
            continue
        found[separator] = (fits(names), len(names))
    best = max(found.values(), default=(0, 0))
    chosen = [separator for separator, score in found.items() if score == best]
    if len(chosen) > 1 and best[1] > 1:
        raise InputError(
            f"{where}: its first line has {' as well as '.join(_SEPARATORS[one] for one in chosen)} as separators. "
            "Write it with commas."
        )
    return chosen[0] if chosen else ","


def _csv_rows(where: str, text: str, separator: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, without blanks around values."""
    source = io.StringIO(text, newline="")  # which splits lines at \n, \r\n and \r alike
    for _ in range(skipped):
        source.readline()
    reader = csv.reader(source, delimiter=separator, skipinitialspace=separator != "\t", strict=True)
    try:
        for row in reader:
            values = [value.strip() for value in row]
            if any(values):
                yield reader.line_num + skipped, values
    except csv.Error as error:
        raise InputError(f"{where}, line {reader.line_num + skipped}: not CSV: {error}.") from error


def _body(
    where: str, text: str, separator: str, skipped: int, names: tuple[str, ...]
) -> Iterator[tuple[int, list[str]]]:
    width = len(names)
    rows = _csv_rows(where, text, separator, skipped)
    next(rows, None)
    for line, values in rows:
        while len(values) > width and not values[-1]:
            values.pop()
        if max(map(len, values)) > _MAX_VALUE:
            raise _too_long(where, line, max(values, key=len))
        if tuple(values) != names:  # a header among the rows: concatenated files
            yield line, values


def _objects(where: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if "\\u" in line:
                json.dumps(record, ensure_ascii=False).encode()  # half of a pair, as \ud800, is in no file's name
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}, line {number}: not JSON: {error}.") from error
        if not isinstance(record, dict):
            raise InputError(f"{where}, line {number}: not a JSON object.")
        _check_names(where, number, record)
        yield number, {name.strip(): value for name, value in record.items()}


def _check_names(where: str, line: int, names: Iterable[str]) -> None:
    for name in names:
        if len(name) > _MAX_NAME:
            raise InputError(
                f"{where}, line {line}: the name of a column, {name[:40]}…, has {len(name):,} characters; it may have "
                f"{_MAX_NAME}. Shorten it, or see whether a quote is missing."
            )


def _too_long(where: str, line: int, value: str) -> InputError:
    return InputError(
        f"{where}, line {line}: {value[:40]}… has {len(value):,} characters; a value may have {_MAX_VALUE:,}. Leave "
        "its column out, or see whether a quote is missing."
    )


def _json_rows(
    where: str, records: Sequence[tuple[int, dict[str, Any]]], names: Sequence[str]
) -> Iterator[tuple[int, list[str]]]:
    """Rows from JSON lines; a key that a line lacks is empty there."""
    for number, record in records:
        yield number, [_as_text(where, number, record.get(name)) for name in names]


def _as_text(where: str, number: int, value: Any) -> str:
    if value is None or isinstance(value, str):
        text = (value or "").strip()
        if len(text) > _MAX_VALUE:
            raise _too_long(where, number, text)
        return text
    return json.dumps(value)  # a number, true or false
