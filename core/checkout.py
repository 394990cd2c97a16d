"""Where this project lies: its `configs/` and `schemas/` are found from any current directory."""

from __future__ import annotations

from pathlib import Path

_ABOVE = Path(__file__).resolve().parents[1]

CHECKOUT = _ABOVE if (_ABOVE / "pyproject.toml").is_file() else Path.cwd()
"""The checkout's folder; the current directory where only the packages are installed, as in the container image."""
