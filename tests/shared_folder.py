"""Folders that one worker of a test run fills and all of them read."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def shared_folder(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], None]) -> Path:
    """The folder `name` of this test run, which is filled by the first that asks; others wait for it meanwhile.

    No test may change what is in it.
    """
    workers = "PYTEST_XDIST_WORKER" in os.environ
    base = factory.getbasetemp().parent if workers else factory.getbasetemp()
    folder, filled = base / name, base / f"{name}.filled"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not filled.exists():
            shutil.rmtree(folder, ignore_errors=True)  # half of it, where another's attempt failed
            folder.mkdir()
            fill(folder)
            filled.touch()
    return folder
