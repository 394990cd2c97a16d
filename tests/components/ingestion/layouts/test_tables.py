"""Dialects and encodings of tables."""

import codecs
import json

import pytest

from components.ingestion.layouts.tables import Table, read_table
from core.errors import InputError

LOOKED_FOR = {"file_name", "label"}


def read(data: bytes, where: str = "metadata.csv") -> Table:
    return read_table(where, data, lambda names: len(LOOKED_FOR & {name.strip() for name in names}))


def rows(table: Table) -> list[tuple[int, list[str]]]:
    assert list(table.rows()) == list(table.rows()), "they begin anew"
    return list(table.rows())


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("file_name,label\n1.png,owl\n", "commas, UTF-8"),
        ("file_name;label\n1.png;owl\n", "semicolons, UTF-8"),
        ("file_name\tlabel\n1.png\towl\n", "tabs, UTF-8"),
        ("file_name|label\n1.png|owl\n", "bars, UTF-8"),
        ("sep=;\nfile_name;label\n1.png;owl\n", "semicolons, UTF-8"),
        ('"file_name", "label"\n"1.png", "owl"\n', "commas, UTF-8"),
        ('"file_name" , "label" \r\n"1.png" ,"owl" \r\n', "commas, UTF-8"),
        (" file_name , label \n 1.png ,\t owl \n", "commas, UTF-8"),
        ("file_name,label\r\n1.png,owl\r\n", "commas, UTF-8"),
        ("file_name,label\r1.png,owl\r", "commas, UTF-8"),
        ("\n\nfile_name,label\n\n , \n1.png,owl\n\n", "commas, UTF-8"),
        ("file_name;label;;\n1.png;owl;;\n", "semicolons, UTF-8"),
        ("file_name,label\n1.png,owl,\n", "commas, UTF-8"),
        ("file_name,label\n1.png,owl\nfile_name,label\n", "commas, UTF-8"),
    ],
)
def test_csv_is_read_in_every_dialect(text: str, written: str) -> None:
    table = read(text.encode())
    assert (table.columns, table.written) == (("file_name", "label"), written)
    assert [values for _, values in rows(table)] == [["1.png", "owl"]]


@pytest.mark.parametrize(
    ("encoding", "mark", "written"),
    [
        ("utf-8", b"", "UTF-8"),
        ("utf-8", codecs.BOM_UTF8, "UTF-8"),
        ("utf-16-le", codecs.BOM_UTF16_LE, "UTF-16"),
        ("utf-16-be", codecs.BOM_UTF16_BE, "UTF-16"),
        ("utf-16-le", b"", "UTF-16"),
        ("utf-16-be", b"", "UTF-16"),
        ("utf-32-le", codecs.BOM_UTF32_LE, "UTF-32"),
        ("cp1252", b"", "not UTF-8 (line 2), read as Windows-1252"),
    ],
)
def test_text_is_read_in_every_encoding(encoding: str, mark: bytes, written: str) -> None:
    table = read(mark + "file_name,label\nmöwe.png,Möwe\n".encode(encoding))
    assert (table.written, rows(table)) == (f"commas, {written}", [(2, ["möwe.png", "Möwe"])])


def test_the_separator_is_that_of_the_first_line_whatever_is_in_the_others() -> None:
    table = read(b'file_name;label;note\n1.png;"Corvus; corax";a,b,c,d\n2.png;"say ""owl""";,,,\n')
    assert rows(table) == [(2, ["1.png", "Corvus; corax", "a,b,c,d"]), (3, ["2.png", 'say "owl"', ",,,"])]


def test_lines_are_those_of_the_file() -> None:
    table = read(b'sep=,\n\nfile_name,note\n1.png,"two\nlines"\n\n2.png,x\n')
    assert [line for line, _ in rows(table)] == [5, 7]


def test_a_column_without_a_name_is_kept_in_its_place() -> None:
    """As pandas writes its index."""
    table = read(b",file_name,label\n0,1.png,owl\n")
    assert (table.columns, rows(table)) == (("", "file_name", "label"), [(2, ["0", "1.png", "owl"])])


@pytest.mark.parametrize("data", [b"", b"\n\n", codecs.BOM_UTF8, codecs.BOM_UTF16_LE])
def test_an_empty_file_has_no_columns(data: bytes) -> None:
    assert (read(data).columns, rows(read(data))) == ((), [])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'file_name,label\n"1.png,owl\n', "line 2: not CSV: unexpected end of data"),
        (b"PK\x03\x04\x00\x00", "is not text"),
        (b"file_name,label\n\x8d\x81.png,owl\n", "line 2: neither UTF-8 nor Windows-1252"),
        (codecs.BOM_UTF16_LE + b"a", "begins as UTF-16 does and is not"),
        (b"file_name;label,x\n", ""),
        (b"a;b,c;d,e\n", "its first line has commas as well as semicolons as separators"),
    ],
)
def test_what_is_no_table_is_told(data: bytes, words: str) -> None:
    if not words:
        assert read(data).columns == ("file_name", "label,x")
        return
    with pytest.raises(InputError, match=words):
        list(read(data).rows())


def test_json_lines_become_rows_with_the_union_of_their_keys() -> None:
    lines = [{"file_name": "1.png", "age": 3, "indoor": True}, {" camera": " A ", "file_name": "2.png", "age": None}]
    table = read("\n\n".join(map(json.dumps, lines)).encode("utf-8-sig"), "m.jsonl")
    assert table.columns == ("file_name", "age", "indoor", "camera")
    assert rows(table) == [(1, ["1.png", "3", "true", ""]), (3, ["2.png", "", "", "A"])]


def test_keys_of_json_lines_that_hold_lists_or_objects_are_left_out() -> None:
    lines = [{"file_name": "1.png", "boxes": None, "label": "a"}, {"file_name": "2.png", "boxes": {"x": [1]}}]
    table = read("\n".join(map(json.dumps, lines)).encode(), "m.jsonl")
    assert table.written == "JSON lines, UTF-8, without boxes: lists and objects are no values"
    assert rows(table) == [(1, ["1.png", "a"]), (2, ["2.png", ""])]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('\n["file_name"]\n', "line 2: not a JSON object"),
        ("[" * 100_000, "line 1: not JSON"),
        ('{"file_name": "cat/1.png"}{\n', "line 1: not JSON: Extra data"),
    ],
)
def test_json_lines_that_do_not_fit_are_told(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        list(read(text.encode(), "m.jsonl").rows())
