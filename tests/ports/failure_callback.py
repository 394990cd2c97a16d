"""A failure call-back as a user would write it: notes which run failed in a file that `FAILED_RUNS` names."""

import os
from pathlib import Path
from typing import Any


def note_failed_run(context: dict[str, Any]) -> None:
    """What `airflow.on_failure` names."""
    with Path(os.environ["FAILED_RUNS"]).open("a") as file:
        file.write(f"{context['dag_run'].run_id}\n")
