"""What Pusher leaves: whether it pushed the model, and the folder of the version, as model servers read it.

Where people approve a push, a version waits in a subfolder until they decide (`components.serving.push`).

The push directory holds a folder per version, named by a number; a model server serves the highest. What else lies
there has no number for a name, so no server looks into it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from core import storage
from core.artifacts.base import Artifact, JsonFile
from core.settings.push import CardSettings

PUSHED_MODEL = Artifact("Pusher", "pushed_model")

MODEL_CARD = "model_card.md"  # in the version's folder, where model servers do not look at it
CARD_WORDS = JsonFile("card.json", CardSettings)  # beside it: what people said of the model when it was pushed

ROLLED_BACK, WAITING, REJECTED = ".rolled_back", ".waiting", ".rejected"
"""Subfolders of versions taken out of service, of the one that waits for approval, and of the lists of checksums of
those that were rejected."""

WAITS = "waiting_for_approval"
"""Property of the artifact: the folder of the version that waits; absent or empty if none does."""

DECIDED = "decision"  # property: a `Decision` as JSON; absent if none was needed, or none was made yet

REJECTED_TO = "rejected_to"  # property: the folder in which the decision is kept, if the version was rejected


@dataclasses.dataclass(frozen=True)
class Decision:
    """What people decided about a version that waited, who did, when (UTC, ISO 8601), and why."""

    decision: Literal["approved", "rejected"]
    by: str
    at: str
    why: str

    def __str__(self) -> str:
        """`approved by jo on 2026-01-02 03:04 UTC: looks right`."""
        return f"{self.decision} by {self.by} on {self.at[:16].replace('T', ' ')} UTC: {self.why}"


DECISION = JsonFile("decision.json", Decision)  # in the version's folder, as the model card

_LOCK = ".lock"
_LARGEST = 2**63 - 1  # that TensorFlow Serving reads


class Numbered(NamedTuple):
    """Whatever has a version's name in the push directory, or among the versions rolled back."""

    number: int
    path: str


def pushed_to(properties: Mapping[str, object]) -> str | None:
    """The version's folder, by the artifact's properties; its name is the version. None if nothing was pushed."""
    return str(properties["pushed_destination"]) if properties.get("pushed") == 1 else None


def numbered(directory: str) -> list[Numbered]:
    """All that a number names in a folder, local or remote, by number; none where there is no such folder."""
    directory = directory.rstrip("/")
    names = _names(directory)
    found = [Numbered(int(name), f"{directory}/{name}") for name in names if name.isascii() and name.isdigit()]
    return sorted(entry for entry in found if entry.number <= _LARGEST)


def beside(directory: str, kind: str) -> str:
    """The subfolder of the push directory for `ROLLED_BACK`, `WAITING` or `REJECTED` versions."""
    return f"{directory.rstrip('/')}/{kind}"


def version_of(folder: str) -> str:
    """A version's number, by its folder."""
    return folder.rpartition("/")[2]


def rolled_back_path(version: str) -> str:
    """Where a rollback moves a version's folder."""
    directory, _, number = version.rpartition("/")
    return f"{beside(directory, ROLLED_BACK)}/{number}"


def again(version: str) -> str:
    """What to do about a version that was rolled back or rejected, so that its model is pushed after all."""
    return f"to push it again, delete {version} and run again"


def next_number(directory: str) -> int:
    """The number of a version pushed now: the time in seconds, but above all there were, whatever the clock says."""
    folders = [directory, *(beside(directory, kind) for kind in (ROLLED_BACK, WAITING, REJECTED))]
    there = [entry.number for folder in folders for entry in numbered(folder)]
    return max(int(time.time()), *(number + 1 for number in there), 1)


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
    """Keeps others that push to, prune or roll back a local push directory waiting while the block lasts.

    A remote one has no locks: there two pushes in the same second meet at the same number, and one of them fails.
    """
    if storage.is_remote(directory):
        yield
        return
    Path(directory).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(Path(directory, _LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _names(directory: str) -> list[str]:
    if not storage.is_remote(directory):
        return [path.name for path in Path(directory).iterdir()] if Path(directory).is_dir() else []
    return sorted({one.path.partition("/")[0] for one in storage.find(directory)})
