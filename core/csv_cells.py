"""Cells of CSV files that spreadsheets read as text: names of files and classes may look like formulas.

`=HYPERLINK(…)` as a class would be a link in the spreadsheet of whoever opens the file. Such a cell begins with a `'`
(https://owasp.org/www-community/attacks/CSV_Injection); one stands also behind the separator of another dialect, where
that would begin a cell.
"""

from __future__ import annotations

import re

_BEGINNING = r"^|[;|\t\r\n]"
_FORMULA = r"[ ']*(?:[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])"  # the last four are = + - @ in full width
_RISKY = re.compile(f"({_BEGINNING})(?={_FORMULA})")
UNDO = re.compile(f"({_BEGINNING})'(?={_FORMULA})")
"""`UNDO.sub(r"\\1", cell)` is the text that `as_text` was given."""


def as_text(value: str) -> str:
    """The text as a cell that no spreadsheet calculates."""
    return _RISKY.sub(r"\1'", value)
