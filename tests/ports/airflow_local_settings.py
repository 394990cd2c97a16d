"""What Airflow imports at its start: the scheduler imports the stack once, and one task fails after its first try."""

import sys
from typing import Any

__all__ = ("task_policy",)

if sys.argv[1:2] == ["scheduler"]:  # its tasks are forked from it, and find TensorFlow and TFX imported
    import pipeline.pipeline
    import pipeline.runners.single_node  # noqa: F401


def task_policy(task: Any) -> None:
    """Airflow's hook for every task of every DAG it reads."""
    if task.task_id == "StatisticsGen":
        task._post_execute_hook = _lose_the_first_try


def _lose_the_first_try(context: dict[str, Any], _: Any) -> None:
    """As if the machine had gone after the component had published its outputs, before Airflow heard of it."""
    if context["task_instance"].try_number == 1:
        raise RuntimeError("the machine is gone")
