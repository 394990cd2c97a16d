"""What Pusher leaves: whether it pushed the model, and the folder of the version, as model servers read it.

The push directory holds a folder per version, named by a number; a model server serves the highest. What else lies
there has no number for a name, so no server looks into it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from core.artifacts.base import Artifact, JsonFile
from core.settings.push import CardSettings

PUSHED_MODEL = Artifact("Pusher", "pushed_model")

MODEL_CARD = "model_card.md"  # in the version's folder, where model servers do not look at it
CARD_WORDS = JsonFile("card.json", CardSettings)  # beside it: what people said of the model when it was pushed

ROLLED_BACK = ".rolled_back"
"""Subfolder of versions taken out of service."""

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


def rolled_back(directory: str) -> str:
    """The folder of the versions that were taken out of service."""
    return f"{directory.rstrip('/')}/{ROLLED_BACK}"


def again(rolled_back_version: str) -> str:
    """What to do about a version that was rolled back, so that its model is pushed after all."""
    return f"to push it again, delete {rolled_back_version} and run again"


def next_number(directory: str) -> int:
    """The number of a version pushed now: the time in seconds, but above all there were, whatever the clock says."""
    there = [entry.number for folder in (directory, rolled_back(directory)) for entry in numbered(folder)]
    return max(int(time.time()), *(number + 1 for number in there), 1)


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
    """Keeps others that push to, prune or roll back a local push directory waiting while the block lasts.

    A remote one has no locks: there two pushes in the same second meet at the same number, and the later one fails.
    """
    if "://" in directory:
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
    if "://" not in directory:
        return [path.name for path in Path(directory).iterdir()] if Path(directory).is_dir() else []
    import tensorflow as tf

    return [name.rstrip("/") for name in tf.io.gfile.listdir(directory)] if tf.io.gfile.isdir(directory) else []
