"""The one exception that means: the user's data or settings are at fault, not our code."""


class InputError(Exception):
    """Bad input or settings.

    The message is shown to the user as it is: what was found, where, and what to do.
    The command line turns it into exit code 2; on Airflow and Kubeflow the task fails with it.
    """
