"""A pipeline's own folder on this machine: what lies where in it, who may use it, and what of it is in service."""

from __future__ import annotations

import contextlib
import fcntl
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

from core.errors import InputError
from core.settings import Settings
from pipeline.runs import push_directory
from pipeline.runs.outcome import Outcome

ARTIFACTS = "artifacts"
"""Folder of all artifacts in the pipeline's folder."""

_NONCE = ".nonce"


def home_of(settings: Settings, root: Path) -> Path:
    """Where everything of this pipeline is kept."""
    return root.resolve() / settings.name


def push_folder(settings: Settings, root: Path) -> Path:
    """Where its models are pushed; a relative `push.directory` lies in the pipeline's own folder.

    Raises:
        InputError: it is no local folder; only clusters push to remote ones.
    """
    if "://" in settings.push.directory:
        raise InputError(f"push.directory is {settings.push.directory}; a local run pushes to a local folder")
    return home_of(settings, root) / Path(settings.push.directory).expanduser()


@contextlib.contextmanager
def only_run(home: Path) -> Iterator[None]:
    """Keeps other runs out of the folder for as long as the block lasts. Raises InputError where one is in it."""
    with (home / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another run is going on in {home}; wait for it, or give another ROOT") from None
        yield


def push_nonce(directory: Path, last_run: Path) -> str:
    """A name for the push directory's present content, part of Pusher's cache key.

    A cached push is as good as a new one only while the version is still there. Where the last run's version was
    deleted, or the whole directory, the name is made anew and the model is pushed again; a version that `rollback`
    set aside stays aside.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / _NONCE
    pushed = json.loads(last_run.read_text(encoding="utf-8")).get("pushed_model") if last_run.exists() else None
    lost = pushed and not Path(pushed).exists() and not push_directory.aside(Path(pushed)).exists()
    if lost or not path.exists():
        path.write_text(uuid.uuid4().hex)
    return path.read_text()


def check_pushed(outcome: Outcome, pushed_to: Path) -> None:
    """A cached push may name a version that is no longer in service: then says what is."""
    version = Path(str(outcome.pushed_model))
    if (version / "saved_model.pb").is_file():
        return
    gone = "was rolled back since" if push_directory.aside(version).exists() else "was deleted since"
    serving = push_directory.versions(pushed_to)
    outcome.pushed_model = str(serving[-1]) if serving else None
    now = f"what serves is {serving[-1]}" if serving else "nothing serves now"
    outcome.notes.append(f"this model was pushed before as version {version.name}, which {gone}; {now}")
