"""The folder of this project, so that its `configs/` and `schemas/` are found from any current directory."""

from __future__ import annotations

from pathlib import Path

_ABOVE = Path(__file__).resolve().parents[1]

CHECKOUT = _ABOVE if (_ABOVE / "pyproject.toml").is_file() else Path.cwd()
"""The checkout's folder; the current directory if only the packages are installed, as in the container image."""


def from_checkout(path: Path) -> str:
    """A path relative to the checkout, if it is inside, so that it is the same on every machine."""
    return str(path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path)
