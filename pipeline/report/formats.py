"""Template filters that format numbers, intervals and settings for the page and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.evaluation.intervals import Interval
from core.artifacts.verdict import Range
from pipeline.runs import comparison

_UNKNOWN = "\N{EN DASH}"
_SHADES = 8
_SPECIAL = "\\`*_{}[]<>#|~"  # in Markdown


def predicted_class(name: str) -> str:
    """The class, or words saying that the model could not read the image."""
    return name or "nothing (the model could not read the image)"


def percent(value: float | None) -> str:
    """0.9667 as `96.7%`."""
    return _UNKNOWN if value is None else f"{100 * value:.1f}%"


def points(value: float | None) -> str:
    """A change of a fraction in percentage points, with its sign."""
    return _UNKNOWN if value is None else _minus(f"{100 * value:+.1f}")


def signed(value: float) -> str:
    """Three decimals with a sign."""
    return _minus(f"{value:+.3f}")


def number(value: Any) -> str:
    """Four significant digits; a dash if unknown."""
    if value is None:
        return _UNKNOWN
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def metric(value: float | None) -> str:
    """Three decimals, so that columns align."""
    return _UNKNOWN if value is None else f"{value:.3f}"


def limits(found: Range | Interval, scale: int = 100) -> str:
    """The limits of a `Range` or an `Interval` without the value: `84.1 to 95.0`; nothing if unknown."""
    if found.low is None or found.high is None:
        return ""
    digits = 1 if scale == 100 else 3
    return " to ".join(_minus(f"{scale * limit:.{digits}f}") for limit in (found.low, found.high))


def reasons(message: str) -> list[str]:
    """The lines of a message after the first, or the top-level points of a list."""
    lines = message.splitlines()[1:]
    return [line.removeprefix("- ") for line in lines if line.startswith("- ")] or lines


def integer(value: float) -> str:
    """With commas between thousands."""
    return f"{value:,.0f}"


def seconds(value: float) -> str:
    """`3 min 47 s`, `42 s`, `0.2 s`."""
    if value >= 60:
        return f"{int(value // 60)} min {int(value % 60)} s"
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"


def shade(part: int, of: int) -> int:
    """0 to 8, 0 only for nothing."""
    return 0 if not part else max(1, round(_SHADES * part / max(of, 1)))


def flattened(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """`training.steps`, `2000`: a line for every setting."""
    return [(name, comparison.plain(value)) for name, value in comparison.flattened(settings)]


def plain(text: object) -> str:
    """Text escaped for Markdown and HTML, on one line, since class and file names may contain anything."""
    line = " ".join(str(text).split())
    return "".join(f"\\{c}" if c in _SPECIAL else c for c in line).replace("&", "&amp;")


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


FILTERS = {
    f.__name__: f
    for f in (predicted_class, percent, points, signed, number, metric, limits, reasons, integer, seconds, shade, plain)
}
