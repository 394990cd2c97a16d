"""Where the pages of a pipeline's runs are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_FOLDER = "reports"
_KEPT = 50


def page_path(run_dir: Path, run: str) -> Path:
    """The page of a run; ML Metadata's names are times with colons."""
    return run_dir / _FOLDER / ("".join(c if c.isalnum() or c in "-_." else "-" for c in run) + ".html")


def links(run_dir: Path, runs: Iterable[str]) -> dict[str, str]:
    """For each of the runs that still has a page, a link to it from another page."""
    paths = {run: page_path(run_dir, run) for run in runs}
    return {run: path.name for run, path in paths.items() if path.is_file()}


def prune(run_dir: Path) -> None:
    """Deletes all pages but the newest fifty."""
    for old in sorted((run_dir / _FOLDER).glob("*.html"), key=lambda p: p.stat().st_mtime)[:-_KEPT]:
        old.unlink()
