"""The one exception that means: the user's data or settings are at fault, not our code; and how messages list names."""

import traceback
from collections.abc import Sequence
from typing import NamedTuple


class InputError(Exception):
    """Bad input or settings.

    The message is shown to the user as it is: what was found, where, and what to do.
    The command line turns it into exit code 2; on Airflow and Kubeflow the task fails with it.
    """


def message_for_user(error: BaseException) -> str | None:
    """The message of the InputError that caused `error`, or is it: frameworks wrap what components raise.

    Without the name of the step, which Beam appends. None if no InputError is behind it.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__ or cause.__context__
    return None if cause is None else str(cause).split(" [while running")[0]


class Cause(NamedTuple):
    """Why something failed, in words, and whether the user's data or settings are at fault."""

    message: str
    bad_input: bool = False


def cause_of(error: BaseException) -> Cause:
    """The message of the InputError behind `error`; else the error itself."""
    if (message := message_for_user(error)) is not None:
        return Cause(message, bad_input=True)
    return Cause("".join(traceback.format_exception_only(type(error), error)).strip())


def some(names: Sequence[str], shown: int = 10) -> str:
    """The first names, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")
