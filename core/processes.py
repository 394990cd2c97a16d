"""Makes processes end when they should: with their parent, and cleanly when they are told to.

`python -m core.processes PARENT COMMAND...` runs the command in a process that ends with its parent, given by id.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def end_with(parent: int) -> None:
    """Has the system kill this process when its parent, given by id, ends in whatever way; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)


def ending_with_this(command: Sequence[str]) -> list[str]:
    """A command for `subprocess` whose process ends with this one; the main thread must start it."""
    return [sys.executable, "-m", "core.processes", str(os.getpid()), *command]


class TerminatedError(KeyboardInterrupt):
    """The system, or whatever manages this process, told it to end; handled like Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


def raise_when_terminated() -> None:
    """Makes SIGTERM and SIGHUP raise `TerminatedError` once in the main thread, so that temporary files are deleted."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores the second
            signal.signal(number, _terminate)


def _terminate(number: int, _frame: object) -> None:
    for other in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise TerminatedError(number)


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
