"""The push directory: a folder per version, named by a number; a model server serves the highest.

Pusher names a version by the second of its push. Only complete versions count here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from core.artifacts.pushed_model import is_complete, withdraw
from core.errors import InputError

ROLLED_BACK = ".rolled_back"
"""Subfolder of versions taken out of service; not a number, so no server looks into it."""


def versions(directory: Path) -> list[Path]:
    """Folders of the complete versions, newest last; none if there is no such directory."""
    return [version for version in _numbered(directory) if is_complete(version)]


def latest(directory: Path) -> Path:
    """The folder of the version a server serves.

    Raises:
        InputError: no version has been pushed.
    """
    complete = versions(directory)
    if not complete:
        raise InputError(f"no model has been pushed to {directory}: run the pipeline first, or name a model's folder")
    return complete[-1]


def prune(directory: Path, keep: int) -> list[Path]:
    """Deletes all but the newest `keep` versions, and older remains of pushes that were never finished.

    Returns:
        The folders that were deleted, oldest first.

    Raises:
        InputError: `keep` is less than 1.
    """
    if keep < 1:
        raise InputError(f"push.keep is {keep}; at least the version in service must stay")
    kept = versions(directory)[-keep:]
    if not kept:
        return []
    # A version newer than the latest complete one may be in the middle of its push.
    doomed = [v for v in _numbered(directory) if v not in kept and int(v.name) < int(kept[-1].name)]
    for version in doomed:
        withdraw(version)  # first, so that an interrupted deletion leaves no version
        shutil.rmtree(version)
    return doomed


def rollback(directory: Path) -> tuple[Path, Path]:
    """Takes the newest version out of service in one step, so that a server falls back to the one before.

    Returns:
        Where the newest version is now, and the folder of the version that serves from now on.

    Raises:
        InputError: there is no version, or none to fall back to.
    """
    newest = latest(directory)
    earlier = versions(directory)[:-1]
    if not earlier:
        raise InputError(
            f"{directory} holds only version {newest.name}: there is no earlier one to fall back to; "
            "push another model first, or stop the server"
        )
    target = rolled_back_path(newest)
    if target.exists():
        raise InputError(f"{target} is already there: delete it or move it away, then roll back again")
    target.parent.mkdir(exist_ok=True)
    newest.rename(target)
    return target, earlier[-1]


def rolled_back_path(version: Path) -> Path:
    """Where `rollback` moves a version's folder."""
    return version.parent / ROLLED_BACK / version.name


def _numbered(directory: Path) -> list[Path]:
    """All version folders, complete or not, by number."""
    if not directory.is_dir():
        return []
    found = [e for e in directory.iterdir() if e.name.isascii() and e.name.isdigit() and e.is_dir()]
    return sorted(found, key=lambda e: int(e.name))
