"""Cells of CSV files that might be formulas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.csv_cells import UNDO, as_text


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ('=HYPERLINK("http://x","y")', '\'=HYPERLINK("http://x","y")'),
        ("-1+cmd", "'-1+cmd"),
        ("  @x", "'  @x"),
        ("\uff1d1", "'\uff1d1"),
        ("'=1", "''=1"),
        ("a;=1", "a;'=1"),
        ("a\n+1", "a\n'+1"),
        ("a-b=c.jpg", "a-b=c.jpg"),
        ("a; b", "a; b"),
        ("'tis", "'tis"),
        ("", ""),
    ],
)
def test_what_might_be_a_formula_is_text(value: str, cell: str) -> None:
    assert as_text(value) == cell
    assert UNDO.sub(r"\1", cell) == value


@given(st.text(alphabet="=+-@';|\t\r\n ab\uff1d", max_size=12))
def test_as_text_can_be_undone(value: str) -> None:
    assert UNDO.sub(r"\1", as_text(value)) == value
