"""The push directory: a folder per version, named by a number; a model server serves the highest.

A version counts where its files are all there in the size that its checksums' list says. Whoever deletes versions or
goes back to one reads every byte first: a version is good if its checksums are right.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from core import atomic_io, checksums
from core.artifacts import provenance
from core.artifacts.pushed_model import ROLLED_BACK, locked, numbered
from core.errors import InputError

if TYPE_CHECKING:
    from core.signing import PublicKey


def versions(directory: Path) -> list[Path]:
    """Folders of the complete versions, newest last; none if there is no such directory."""
    return [version for version in _folders(directory) if checksums.is_complete(str(version))]


def latest(directory: Path, say: Callable[[str], None], key: PublicKey | None = None) -> Path:
    """The folder of the version that a server serves: the newest good one.

    Args:
        key: that must have signed it; None asks for no signature.
        say: gets a sentence for each newer version that is not good.

    Raises:
        InputError: no version has been pushed, or none is good.
    """
    bad = []
    for version in reversed(_folders(directory)):
        if problem := provenance.problem(str(version), key):
            bad.append(f"version {version.name} is not used: {problem}")
            continue
        for sentence in bad:
            say(f"{sentence}; taken instead: version {version.name}")
        return version
    if bad:
        remedy = "give the public key of push.signing_key" if key else "the next run pushes its model anew"
        raise InputError(f"no version in {directory} is good: {'; '.join(bad)}; {remedy}")
    raise InputError(f"no model has been pushed to {directory}: run the pipeline first, or name a model's folder")


def prune(directory: Path, keep: int) -> list[Path]:
    """Deletes all but the newest `keep` good versions, the damaged ones among them, and what killed pushes left.

    What is newer than the newest good version stays, and where none is good all do. Of a link only the link goes.
    Folders without a list of checksums are not this pipeline's.

    Returns:
        The folders that were deleted, oldest first.

    Raises:
        InputError: `keep` is less than 1.
    """
    if keep < 1:
        raise InputError(f"push.keep is {keep}; at least the version in service must stay")
    if not directory.is_dir():
        return []
    with locked(str(directory)):
        atomic_io.clear_remains(directory)
        ours = [version for version in _folders(directory) if checksums.listed(str(version)) is not None]
        if len(ours) <= keep:
            return []
        doomed: list[Path] = []
        good = 0
        for version in reversed(ours):
            if good < keep and not checksums.problem(str(version)):
                good += 1
            elif good:
                doomed.insert(0, version)
        for version in doomed:
            atomic_io.discard(version)
    return doomed


def rollback(directory: Path) -> tuple[list[Path], Path]:
    """Takes the newest version out of service in one step, so that a server falls back to the good one before it.

    Damaged versions between the two, which a server might fall back to, are taken out of service first.

    Returns:
        Where the versions are now that are out of service, the newest last, and the folder of the one that serves from
        now on.

    Raises:
        InputError: there is no version, or no good one to fall back to.
    """
    if not _folders(directory):
        raise InputError(f"no model has been pushed to {directory}: run the pipeline first")
    with locked(str(directory)):
        atomic_io.clear_remains(directory)
        *earlier, newest = _folders(directory)
        damaged: list[Path] = []
        while earlier and checksums.problem(str(earlier[-1])):
            damaged.insert(0, earlier.pop())
        if not earlier:
            others = f", and {len(damaged)} earlier that are damaged" if damaged else ""
            raise InputError(
                f"{directory} holds only version {newest.name}{others}: there is no good earlier one to fall back to; "
                "push another model first, or stop the server"
            )
        leaving = [*damaged, newest]
        for version in leaving:
            if os.path.lexists(rolled_back_path(version)):
                raise InputError(
                    f"{rolled_back_path(version)} is already there: delete it or move it away, then roll back again"
                )
        (directory / ROLLED_BACK).mkdir(exist_ok=True)
        for version in leaving:
            _take_out(version)
    return [rolled_back_path(version) for version in leaving], earlier[-1]


def rolled_back_path(version: Path) -> Path:
    """Where `rollback` moves a version's folder."""
    return version.parent / ROLLED_BACK / version.name


def _take_out(version: Path) -> None:
    out = rolled_back_path(version)
    if version.is_symlink():  # a relative one would lead elsewhere from there
        out.symlink_to(version.resolve())
        atomic_io.discard(version)
    else:
        atomic_io.move(version, out)


def _folders(directory: Path) -> list[Path]:
    """All version folders, complete or not, by number."""
    return [path for entry in numbered(str(directory)) if (path := Path(entry.path)).is_dir()]
