"""Escapes cells of CSV files, so that spreadsheets read them as text: file and class names may look like formulas.

A class named `=HYPERLINK(…)` would become a link in the spreadsheet of whoever opens the file. Such a cell gets a
leading `'` (https://owasp.org/www-community/attacks/CSV_Injection), also after the separators of other CSV dialects,
where it would start a cell.
"""

from __future__ import annotations

import re

_BEGINNING = r"^|[;|\t\r\n]"
_FORMULA = r"[ ']*(?:[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])"  # the last four are = + - @ in full width
_RISKY = re.compile(f"({_BEGINNING})(?={_FORMULA})")
UNDO = re.compile(f"({_BEGINNING})'(?={_FORMULA})")
"""`UNDO.sub(r"\\1", cell)` is the text that `as_text` was given."""


def as_text(value: str) -> str:
    """The text as a cell that no spreadsheet evaluates."""
    return _RISKY.sub(r"\1'", value)
