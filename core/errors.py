"""The one exception that means: the user's data or settings are at fault, not our code."""


class InputError(Exception):
    """Bad input or settings.

    The message is shown to the user as it is: what was found, where, and what to do.
    The command line turns it into exit code 2; on Airflow and Kubeflow the task fails with it.
    """


def input_error_behind(error: BaseException) -> InputError | None:
    """The InputError that caused `error`, or is it, or None: frameworks wrap what components raise."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__ or cause.__context__
    return cause


def message_of(error: InputError) -> str:
    """What is to be shown: without the name of its step, which Beam adds."""
    return str(error).split(" [while running")[0]
