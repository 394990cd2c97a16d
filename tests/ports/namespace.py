"""Programs that run in a network of their own: Beam's servers listen on all interfaces."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import ROOT

_OWN_NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def may_unshare() -> bool:
    """Whether this user may make a network."""
    try:
        return subprocess.run([*_OWN_NETWORK, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def run_alone(module: str, arguments: Sequence[str], log: Path) -> None:
    """`python -m MODULE ARGUMENTS`; it is killed with all that it started, should the test be stopped.

    Raises:
        AssertionError: it failed; with the end of its log.
    """
    with log.open("w") as output:
        run = subprocess.Popen(
            [*_OWN_NETWORK, sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            run.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 0, log.read_text()[-6000:]
