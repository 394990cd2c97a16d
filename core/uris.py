"""Data folders as users name them: local or remote, one folder or a pattern of spans."""

from __future__ import annotations

import re

SPAN_SPEC = re.compile(r"\{(SPAN|VERSION|YYYY|MM|DD)(?::([1-9]\d*))?\}")
"""A spec in a TFX span pattern, with its number of digits."""

DATE_SPECS = {"YYYY": 4, "MM": 2, "DD": 2}  # the specs that together name a day, with their digits


def split_pattern(images: str) -> tuple[str, str]:
    """Splits a data folder into (folder, pattern): the part before the first spec, and the rest or "".

    Raises:
        ValueError: TFX does not know the specs, or they cannot be combined.
    """
    parts = images.rstrip("/").split("/")
    first = next((i for i, part in enumerate(parts) if "{" in part), len(parts))
    base, pattern = "/".join(parts[:first]), "/".join(parts[first:])
    specs = [name for name, _ in SPAN_SPEC.findall(pattern)]
    plain = SPAN_SPEC.sub("", pattern)
    if pattern and (
        set("{}*?[]") & set(plain)
        or len(set(specs)) < len(specs)
        or {*specs} - {"VERSION"} not in ({"SPAN"}, set(DATE_SPECS))
    ):
        raise ValueError(
            f"{pattern!r} is not a pattern of spans; it must have {{SPAN}}, or {{YYYY}}, {{MM}} and {{DD}}, each once, "
            "and may have {VERSION}, as in photos/day-{SPAN} or photos/day-{SPAN}/v{VERSION}"
        )
    return base, pattern
