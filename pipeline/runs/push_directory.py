"""The push directory: a folder per version, named by a number; a model server serves the highest.

A version is complete if all its files have the sizes in its list of checksums, and good if their checksums are right,
too. Whatever deletes versions or rolls back to one reads every byte first.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from components.serving.push import discard, take_out
from core import atomic_io, checksums, storage
from core.artifacts import provenance
from core.artifacts.pushed_model import locked, numbered, rolled_back_path, version_of
from core.errors import InputError

if TYPE_CHECKING:
    from core.signing import PublicKey


def versions(directory: str) -> list[str]:
    """Folders of the complete versions, newest last; none if there is no such directory."""
    return [version for version in _folders(directory) if checksums.is_complete(version)]


def latest(directory: str, say: Callable[[str], None], key: PublicKey | None = None) -> str:
    """The folder of the version that a server serves: the newest good one.

    Args:
        key: the one that must have signed it; None requires no signature.
        say: called with a sentence for each newer version that is not good.

    Raises:
        InputError: no version has been pushed, or none is good.
    """
    bad = []
    for version in reversed(_folders(directory)):
        if problem := provenance.problem(version, key):
            bad.append(f"version {version_of(version)} is not used: {problem}")
            continue
        for sentence in bad:
            say(f"{sentence}; taken instead: version {version_of(version)}")
        return version
    if bad:
        remedy = "give the public key of push.signing_key" if key else "the next run pushes its model anew"
        raise InputError(f"no version in {directory} is good: {'; '.join(bad)}; {remedy}")
    raise InputError(f"no model has been pushed to {directory}: run the pipeline first, or name a model's folder")


def prune(directory: str, keep: int) -> list[str]:
    """Deletes all but the newest `keep` good versions, any damaged ones among them, and what killed pushes left.

    Everything newer than the newest good version stays; if none is good, everything does. Of a link, only the link
    itself is deleted. Folders without a list of checksums are not this pipeline's.

    Returns:
        The folders that were deleted, oldest first.

    Raises:
        InputError: `keep` is less than 1.
    """
    if keep < 1:
        raise InputError(f"push.keep is {keep}; at least the version in service must stay")
    if not storage.is_remote(directory) and not Path(directory).is_dir():
        return []
    with locked(directory):
        _clear_remains(directory)
        ours = [version for version in _folders(directory) if checksums.listed(version) is not None]
        if len(ours) <= keep:
            return []
        doomed: list[str] = []
        good = 0
        for version in reversed(ours):
            if good < keep and not checksums.problem(version):
                good += 1
            elif good:
                doomed.insert(0, version)
        for version in doomed:
            discard(version)
    return doomed


def rollback(directory: str) -> tuple[list[str], str]:
    """Takes the newest version out of service, so that a server falls back to the good one before it.

    A local version is moved atomically; a remote one is copied, and then the file that servers look for is deleted
    first. Damaged versions between the two, which a server might fall back to, are taken out of service before.

    Returns:
        Where the versions taken out of service are now, the newest last, and the folder of the version that serves
        from now on.

    Raises:
        InputError: there is no version, or no good one to fall back to.
    """
    if not _folders(directory):
        raise InputError(f"no model has been pushed to {directory}: run the pipeline first")
    with locked(directory):
        _clear_remains(directory)
        *earlier, newest = _folders(directory)
        damaged: list[str] = []
        while earlier and checksums.problem(earlier[-1]):
            damaged.insert(0, earlier.pop())
        if not earlier:
            others = f", and {len(damaged)} earlier that are damaged" if damaged else ""
            raise InputError(
                f"{directory} holds only version {version_of(newest)}{others}: there is no good earlier one to fall "
                "back to; push another model first, or stop the server"
            )
        leaving = [*damaged, newest]
        for version in leaving:
            # In a bucket, this is what an interrupted rollback leaves; the next rollback completes it.
            if not storage.is_remote(version) and os.path.lexists(rolled_back_path(version)):
                raise InputError(
                    f"{rolled_back_path(version)} is already there: delete it or move it away, then roll back again"
                )
        return [take_out(version) for version in leaving], earlier[-1]


def is_there(version: str) -> bool:
    """Whether a version's folder exists, complete or not."""
    return Path(version).exists() if not storage.is_remote(version) else any(True for _ in storage.find(version))


def _clear_remains(directory: str) -> None:
    if not storage.is_remote(directory):
        atomic_io.clear_remains(Path(directory))


def _folders(directory: str) -> list[str]:
    """All version folders, complete or not, by number."""
    found = [entry.path for entry in numbered(directory)]
    return [path for path in found if storage.is_remote(path) or Path(path).is_dir()]
