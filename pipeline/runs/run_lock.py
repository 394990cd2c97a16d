"""Allows one run at a time in a pipeline's folder, each with its own folder for temporary files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from core.errors import InputError, MachineError

_ENDING_SECONDS = 3.0
_PREFIX = "image-classifier-"


@contextlib.contextmanager
def only_run(folder: Path, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Keeps other runs out of the pipeline's folder while the block lasts, and all its temporary files in one place.

    What a killed run left there is deleted; the lock file holds the name of its temporary folder.

    Args:
        folder: of the pipeline.
        say: called if another run is in the way, whose end this then waits for; None: does not wait.

    Raises:
        InputError: another run is in it.
        MachineError: there is no room for temporary files.
    """
    with alone(folder, say) as lock:
        lock.seek(0)
        _delete(Path(lock.read().strip()))
        lock.truncate(0)
        try:
            temporary = tempfile.mkdtemp(prefix=_PREFIX)
        except FileNotFoundError as error:  # tempfile has tried them all
            raise MachineError(f"{error.strerror}: make room in one of them, or name another with TMPDIR") from error
        before = os.environ.get("TMPDIR"), tempfile.tempdir
        try:
            lock.write(temporary)
            lock.flush()
            os.environ["TMPDIR"] = tempfile.tempdir = temporary
            yield
        finally:
            tempfile.tempdir = before[1]
            os.environ.pop("TMPDIR")
            if before[0] is not None:
                os.environ["TMPDIR"] = before[0]
            shutil.rmtree(temporary, ignore_errors=True)
            with contextlib.suppress(OSError):
                lock.truncate(0)


@contextlib.contextmanager
def alone(folder: Path, say: Callable[[str], None] | None = None) -> Iterator[TextIO]:
    """The lock alone, which takes no disk space: keeps runs out while the block lasts; `say` as in `only_run`."""
    with (folder / ".lock").open("a+") as lock:
        _take(lock, folder, say)
        yield lock


@contextlib.contextmanager
def part_of_run(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """For an orchestrator's task: waits for `only_run` to leave the folder, and keeps it out while the block lasts."""
    with (folder / ".lock").open("a") as lock:
        _take(lock, folder, say, fcntl.LOCK_SH)
        yield


def _take(lock: TextIO, folder: Path, say: Callable[[str], None] | None, how: int = fcntl.LOCK_EX) -> None:
    """Takes the lock; the stages of a killed run hold it, too, until the system has ended them."""
    deadline = time.monotonic() + _ENDING_SECONDS
    said = False
    while True:
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                if say is None:
                    refusal = (
                        f"another run is going on in {folder}: wait for its end, give another ROOT, or have runs wait "
                        'for each other with SET="runtime.if_running=wait"'
                    )
                    raise InputError(refusal) from None
                if not said:
                    say(f"another run is going on in {folder}: waiting for its end")
                    said = True
            time.sleep(0.1)


def _delete(temporary: Path) -> None:
    """Deletes what a killed run left, but only this user's own files, whatever the lock file says."""
    with contextlib.suppress(OSError):
        if temporary.name.startswith(_PREFIX) and temporary.lstat().st_uid == os.geteuid():
            shutil.rmtree(temporary, ignore_errors=True)
