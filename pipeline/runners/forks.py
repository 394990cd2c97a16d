"""Runs a function in a fork of this process, which has already imported TensorFlow and TFX, and listens to it.

A fork starts at once, uses another core despite Python's lock, gives its memory back when it ends, and takes no other
process down when it crashes.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from tensorflow.python.eager import context as eager

from core import progress
from core.errors import Blame, Cause, InputError, MachineError, cause_of
from core.processes import end_with

CONTEXT = multiprocessing.get_context("fork")
_ERRORS: dict[Blame, type[Exception]] = {"input": InputError, "machine": MachineError, "code": RuntimeError}
_GRACE_SECONDS = 10.0
_KILLED = (
    "its process was killed; most likely, memory ran out: give the machine or container more, or lower "
    "runtime.feature_batch_size, training.batch_size, data.max_megapixels or backbone.image_size, and run again"
)


class Ending(NamedTuple):
    """How a fork ended.

    Attributes:
        result: what the function returned.
        cause: why it failed; None if it did not.
        cpu_seconds: of the fork and its children, on all cores; None if it died before it could say.
    """

    result: Any = None
    cause: Cause | None = None
    cpu_seconds: float | None = None


class Lock:
    """A reentrant lock between processes; unlike multiprocessing's, it is released when its holder is killed.

    It is made before the forks; each process counts for itself how often it holds it.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as this is
        self._held = 0

    def __enter__(self) -> None:
        if not self._held:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
        self._held += 1

    def __exit__(self, *exc: object) -> None:
        self._held -= 1
        if not self._held:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


class Fork:
    """A function that runs in a process of its own; `progressed` is called with what it reports (`core.progress`)."""

    def __init__(self, progressed: Callable[[dict[str, Any]], None], function: Callable[..., Any], *args: Any) -> None:
        """Starts it.

        Raises:
            RuntimeError: TensorFlow has run something in this process: its threads do not survive a fork.
        """
        if eager.context_safe() is not None:
            raise RuntimeError("TensorFlow has run in this process, so a fork of it could hang")
        self._progressed = progressed
        self._pipe, end = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(target=_run, args=(end, os.getpid(), function, args))
        self._process.start()
        end.close()
        self._ending: Ending | None = None

    def hear(self) -> Ending | None:
        """Waits for the fork's next message, and passes it on; returns how the fork ended, if it has."""
        try:
            said = self._pipe.recv()
        except (EOFError, OSError):  # it has ended, perhaps in the middle of a message
            self._process.join()
            return self._ending or Ending(cause=_killed_by(self._process.exitcode or 0))
        if isinstance(said, Ending):
            self._ending = said
        else:
            self._progressed(said)
        return None

    def interrupt(self, signal_number: int) -> None:
        """Sends a signal to the fork and its children."""
        if self._process.is_alive() and self._process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal_number)

    def join(self, seconds: float) -> None:
        """Waits for its end, at most that long."""
        self._process.join(seconds)


def first_to_speak(forks: Sequence[Fork], seconds: float | None = None) -> list[Fork]:
    """Waits until some have something to say or have ended, at most for the timeout; None: as long as it takes."""
    said = wait([fork._pipe for fork in forks], seconds)
    return [fork for fork in forks if fork._pipe in said]


def stop(forks: Sequence[Fork], signals: Sequence[int] = (signal.SIGINT, signal.SIGKILL)) -> None:
    """Interrupts them, and kills what does not end by itself, at once if Ctrl-C is pressed again."""
    for signal_number in signals:
        for fork in forks:
            fork.interrupt(signal_number)
        with contextlib.suppress(KeyboardInterrupt):
            for fork in forks:
                fork.join(_GRACE_SECONDS)


def call(progressed: Callable[[dict[str, Any]], None], function: Callable[..., Any], *args: Any) -> Any:
    """Runs a function in a fork, and returns what it returns.

    Raises:
        InputError: the function raised it.
        MachineError: the function raised it, or the system killed the fork.
        RuntimeError: it failed otherwise.
    """
    fork = Fork(progressed, function, *args)
    try:
        while not (ending := fork.hear()):
            pass
    finally:
        stop([fork])
    if ending.cause:
        raise _ERRORS[ending.cause.blame](ending.cause.message)
    return ending.result


def _run(pipe: Connection, parent: int, function: Callable[..., Any], args: Sequence[Any]) -> None:
    """The fork's side: calls the function, and reports its progress and how it ended."""
    os.setpgrp()  # Ctrl-C in a terminal reaches the parent alone, which passes it on once
    end_with(parent)
    logging.getLogger(progress.LOGGER_NAME).addHandler(_Sender(pipe))
    result = cause = None
    try:
        result = function(*args)
    except KeyboardInterrupt:
        cause = Cause("its process was interrupted; run again: the stages that finished are reused", "machine")
    except BaseException as error:
        logging.getLogger(__name__).exception("%s failed", function)
        cause = cause_of(error)
    pipe.send(Ending(result, cause, sum(os.times()[:4])))


def _killed_by(exit_code: int) -> Cause:
    if exit_code == -signal.SIGKILL:
        return Cause(_KILLED, "machine")
    how = f"was ended by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with {exit_code}"
    if exit_code in (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP):
        return Cause(f"its process {how}, from outside; run again: the stages that finished are reused", "machine")
    return Cause(f"its process {how}; the log may say why")


class _Sender(logging.Handler):
    """Sends progress to the parent."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__(logging.INFO)
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging for every record of `core.progress`."""
        self._pipe.send(vars(record)["progress"])
