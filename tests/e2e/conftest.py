"""What tests of whole runs share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ROOT
from tests.fork_server import ForkServer


class Done(NamedTuple):
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def pipeline(forks: ForkServer, tmp_path: Path) -> Callable[..., Done]:
    """Runs `python -m pipeline …` to its end, forked from a process that has imported the stack."""

    def run(*arguments: str, root: Path) -> Done:
        files = [tmp_path / "stdout", tmp_path / "stderr"]
        code = forks.run("pipeline", [*arguments, "--root", str(root)], ROOT, *files, os.environ)
        done = Done(code, *(file.read_text() for file in files))
        for file in files:
            file.unlink()
        return done

    return run
