"""What Pusher writes: whether it pushed the model, and the version's folder, as model servers read it.

If a push needs approval, the version waits in a subfolder until someone decides (`components.serving.push`).

The push directory holds a folder per version, named by a number; a model server serves the highest. Nothing else there
is named by a number, so servers ignore it.
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

MODEL_CARD = "model_card.md"  # in the version's folder, where model servers ignore it
CARD_WORDS = JsonFile("card.json", CardSettings)  # beside it: the settings `card` when the model was pushed

ROLLED_BACK, WAITING, REJECTED = ".rolled_back", ".waiting", ".rejected"
"""Subfolders for versions taken out of service, for the one waiting for approval, and for the checksums of rejected
ones."""

WAITS = "waiting_for_approval"
"""Property of the artifact: the folder of the waiting version; absent or empty if there is none."""

DECIDED = "decision"  # property: a `Decision` as JSON; absent if none was needed or made yet

REJECTED_TO = "rejected_to"  # property: the folder that keeps the decision, if the version was rejected


@dataclasses.dataclass(frozen=True)
class Decision:
    """What was decided about a waiting version, by whom, when (UTC, ISO 8601), and why."""

    decision: Literal["approved", "rejected"]
    by: str
    at: str
    why: str

    def __str__(self) -> str:
        """`approved by jo on 2026-01-02 03:04 UTC: looks right`."""
        return f"{self.decision} by {self.by} on {self.at[:16].replace('T', ' ')} UTC: {self.why}"


DECISION = JsonFile("decision.json", Decision)  # in the version's folder, beside the model card

_LOCK = ".lock"
_LARGEST = 2**63 - 1  # the highest version that TensorFlow Serving reads


class Numbered(NamedTuple):
    """An entry of the push directory, or of one of its subfolders, that is named like a version."""

    number: int
    path: str


def pushed_to(properties: Mapping[str, object]) -> str | None:
    """The version's folder, from the artifact's properties; its name is the version. None if nothing was pushed."""
    return str(properties["pushed_destination"]) if properties.get("pushed") == 1 else None


def numbered(directory: str) -> list[Numbered]:
    """All entries of a local or remote folder that are named by a number, sorted; none if there is no such folder."""
    directory = directory.rstrip("/")
    names = _names(directory)
    found = [Numbered(int(name), f"{directory}/{name}") for name in names if name.isascii() and name.isdigit()]
    return sorted(entry for entry in found if entry.number <= _LARGEST)


def beside(directory: str, kind: str) -> str:
    """The subfolder of the push directory for `ROLLED_BACK`, `WAITING` or `REJECTED` versions."""
    return f"{directory.rstrip('/')}/{kind}"


def version_of(folder: str) -> str:
    """A version's number, from its folder."""
    return folder.rpartition("/")[2]


def rolled_back_path(version: str) -> str:
    """Where a rollback moves a version's folder to."""
    directory, _, number = version.rpartition("/")
    return f"{beside(directory, ROLLED_BACK)}/{number}"


def again(version: str) -> str:
    """How to have a model pushed after all whose version was rolled back or rejected."""
    return f"to push it again, delete {version} and run again"


def next_number(directory: str) -> int:
    """The number for a new version: the time in seconds, but above all numbers so far, whatever the clock says."""
    folders = [directory, *(beside(directory, kind) for kind in (ROLLED_BACK, WAITING, REJECTED))]
    there = [entry.number for folder in folders for entry in numbered(folder)]
    return max(int(time.time()), *(number + 1 for number in there), 1)


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
    """Holds a lock on a local push directory, for which others that push, prune or roll back must wait.

    A remote one has no locks: two pushes there in the same second choose the same number, and one of them fails.
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
