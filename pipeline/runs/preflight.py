"""What must be so before a run begins, and would else fail it after its training: folders that can be written, records
that can be read."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from core import storage
from core.artifacts.last_run import LAST_RUN, SETTINGS
from core.errors import DISK_FULL, InputError, MachineError, cause_of
from core.settings import Settings
from core.signing import private_key
from pipeline.runs import metadata
from pipeline.runs.run_dir import ARTIFACTS, METADATA, push_folder, run_dir

_NEEDED_MB = 500  # of disk, for a run with small images


def check_folders(settings: Settings, root: Path) -> None:
    """Makes the local folders that the run writes to, and checks the key that it signs with.

    Raises:
        InputError: one of them is not writable, or there is no key to sign with.
        OSError: the machine is at fault, such as a full disk.
    """
    folder = run_dir(settings, root)
    _writable(folder, "give another folder with ROOT")
    for path in (folder / name for name in (ARTIFACTS, METADATA, "logs", "reports", "images")):
        if path.exists() and not os.access(path, os.W_OK):
            raise InputError(
                f"{path} cannot be written by this user, {os.geteuid()}: did another one run the pipeline? Give it to "
                f"this user (sudo chown -R {os.geteuid()} {folder}; chmod -R u+rwX {folder}), or give another folder "
                "with ROOT"
            )
    if not storage.is_remote(pushed_to := push_folder(settings, root)):
        _writable(Path(pushed_to), "name another with push.directory")
    if settings.push.signing_key:
        private_key(settings.push.signing_key)
    if not settings.schema_file.exists():
        _writable(settings.schema_file.parent, "the schema is to be written there; name another with data.schema")


def check_store(push_folder: str) -> None:
    """Checks, within half a minute, that models can be pushed to a bucket.

    Raises:
        InputError: they cannot.
    """
    try:
        storage.check_writable(push_folder)
    except InputError as error:
        raise InputError(f"push.directory: {error} Or name another folder with push.directory") from error


def notes_on_disk(settings: Settings, root: Path) -> Iterator[str]:
    """A sentence on each file system that the run writes to and that has less room than a small run needs."""
    for disk in _disks(settings, root):
        if disk.free < _NEEDED_MB * 2**20:
            yield (
                f"{disk.free // 2**20:,} MB are free for {' and '.join(disk.uses)}, and even a run with small images "
                f"writes {_NEEDED_MB:,} MB"
            )


def rooms(settings: Settings, root: Path) -> str:
    """Which of the disks that the run writes to is full, and what helps."""
    said = [
        f"{disk.free // 2**20:,} of {disk.total // 2**20:,} MB are free for {' and '.join(disk.uses)}"
        for disk in sorted(_disks(settings, root), key=lambda disk: disk.free)
    ]
    return f"{'; '.join(said)}. Make room there, or name another place, and run again: the stages that finished stay"


@contextlib.contextmanager
def naming_full_disks(settings: Settings, root: Path) -> Iterator[None]:
    """Raises MachineError, which names the full disk, for whatever fails in the block because a disk is full."""
    try:
        yield
    except Exception as error:
        cause = cause_of(error)
        if cause.message.startswith(DISK_FULL):
            raise MachineError(f"{cause.message}. {rooms(settings, root)}") from error
        raise


def check_metadata(folder: Path) -> Iterator[str]:
    """Checks that ML Metadata can be read; returns a sentence if it is gone.

    Raises:
        MachineError: it is damaged.
    """
    path = folder / METADATA
    if not path.exists() or not path.stat().st_size:
        if any((folder / ARTIFACTS).glob("*/*/*")):
            yield (
                f"{path} is gone: ML Metadata, which knows all runs and artifacts. Without it nothing is cached, there "
                "is no history, and no last blessed model to compare with; what was pushed serves on. If you have a "
                f"copy, put it back before the next run; {folder / ARTIFACTS} keeps the old artifacts until new ones "
                "take their places"
            )
        return
    metadata.check(folder)


def set_aside_records(folder: Path) -> Iterator[str]:
    """Moves aside whatever is in the place of the run's records but is not a file; returns a sentence on each."""
    for name in (LAST_RUN.name, SETTINGS.name):
        path = folder / name
        if path.exists() and not path.is_file():
            aside = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=folder)) / name
            path.rename(aside)
            yield f"{path} was no file: it lies in {aside.parent} now"


def _writable(folder: Path, otherwise: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if cause_of(error).blame == "machine":
            raise
        raise InputError(f"{folder} cannot be written: {error.strerror}; {otherwise}") from error


class _Disk(NamedTuple):
    """A file system: its bytes, and what the run uses it for."""

    free: int
    total: int
    uses: list[str]


def _disks(settings: Settings, root: Path) -> list[_Disk]:
    """The file systems that a run writes to."""
    found: dict[int, _Disk] = {}
    folders = [(run_dir(settings, root), "ROOT"), (Path(tempfile.gettempdir()), "TMPDIR")]
    if not storage.is_remote(push := push_folder(settings, root)):
        folders.insert(1, (Path(push), "push.directory"))
    for folder, setting in folders:
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(folder)
            disk = found.setdefault(folder.stat().st_dev, _Disk(usage.free, usage.total, []))
            disk.uses.append(f"{folder} ({setting})")
    return list(found.values())
