"""What is to blame for an error: the user's data or settings, the machine, or our code; and how messages list names."""

import errno
import os
import traceback
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple


class InputError(Exception):
    """Bad input or settings.

    The message is shown to the user as it is: what was found, where, and what to do. The command line turns it into
    exit code 2; on Airflow and Kubeflow the task fails with it.
    """


class MachineError(Exception):
    """The machine failed: out of memory or disk space, a killed process. Neither the data nor the model is to blame.

    The message is shown to the user as it is. The command line turns it into exit code 4; an orchestrator retries.
    """


Blame = Literal["input", "machine", "code"]


class Cause(NamedTuple):
    """Why something failed, in words, and what is to blame."""

    message: str
    blame: Blame = "code"


_MACHINE = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the user's share of the disk is used up",
    errno.EFBIG: "a file became larger than may be (ulimit -f)",
    errno.EIO: "the disk cannot be read or written",
    errno.ENOMEM: "memory ran out",
    errno.EMFILE: "too many files are open (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.EAGAIN: "no more processes or threads can be started (ulimit -u)",
}
DISK_FULL = (_MACHINE[errno.ENOSPC], _MACHINE[errno.EDQUOT])
"""What messages say about a full disk."""

# TensorFlow, gRPC, SQLite and Beam pass on the text of such errors, not the number.
_WORDS = {os.strerror(number): said for number, said in _MACHINE.items() if number != errno.EAGAIN}
_WORDS |= {
    "database or disk is full": _MACHINE[errno.ENOSPC],
    "std::bad_alloc": _MACHINE[errno.ENOMEM],
    "OOM when allocating": _MACHINE[errno.ENOMEM],
    "MemoryError": _MACHINE[errno.ENOMEM],
    "can't start new thread": _MACHINE[errno.EAGAIN],
}
_FOLDER = (errno.EACCES, errno.EPERM, errno.EROFS)


def cause_of(error: BaseException) -> Cause:
    """The cause behind `error`, since frameworks wrap what components raise; without the step that Beam appends."""
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, InputError):
            return Cause(_plain(one), "input")
        if isinstance(one, MachineError):
            return Cause(_plain(one), "machine")
    for one in reversed(chain):  # what came first says the most
        if said := _machine(one):
            return Cause(said, "machine")
        if isinstance(one, OSError) and one.errno in _FOLDER and one.filename is not None:
            return Cause(f"{one.filename}: {one.strerror}", "input")
    return Cause("".join(traceback.format_exception_only(type(error), error)).strip())


def machine_words(text: str) -> str | None:
    """The machine failure that a process's output names, in words; None if it names none."""
    return next((said for words, said in _WORDS.items() if words in text), None)


def some(names: Sequence[str], shown: int = 10) -> str:
    """The first names, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _machine(error: BaseException) -> str | None:
    """The machine failure behind an error, in words; None if there is none."""
    if isinstance(error, MemoryError):
        return _MACHINE[errno.ENOMEM]
    if isinstance(error, OSError) and error.errno in _MACHINE:
        said = _MACHINE[error.errno]
        file = error.filename2 or error.filename  # of a copy, its target
        return f"{said}: {file}" if file else said
    text = _plain(error)
    found = next((words for words in _WORDS if words in text), None)
    if found is None:
        return None
    context = next(line for line in text.splitlines() if found in line).replace(found, "").strip(" ;:")[:300]
    return f"{_WORDS[found]}: {context}" if context else _WORDS[found]


def _plain(error: BaseException) -> str:
    return str(error).split(" [while running")[0]
