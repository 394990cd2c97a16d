"""The settings `airflow`: when and how Airflow runs the DAG."""

import dataclasses
import datetime
import re

from core.settings.checks import AtLeast0, AtLeast1, NotNegative, require


@dataclasses.dataclass(frozen=True)
class AirflowSettings:
    """What `make airflow` writes into the DAG beside the pipeline.

    Attributes:
        schedule: a cron expression or a preset such as `@daily`; null runs only what is triggered.
        start_date: the first day of the schedule, ISO 8601; missed runs before today are not caught up, and a run
            triggered before that day has no tasks: Airflow's rule.
        retries: how often a task that failed is started again; bad input is not, since it would fail again.
        retry_delay_minutes: before that.
        max_active_tasks: components that run at a time. More than one needs a machine with that much memory: each is a
            process with TensorFlow.
        on_failure: dotted path of a function that is given Airflow's context when a run has failed, or was refused.
        owner: as Airflow shows it.
        tags: by which Airflow finds the DAG.
    """

    schedule: str | None = None
    start_date: str = "2025-01-01"
    retries: AtLeast0 = 1
    retry_delay_minutes: NotNegative = 5.0
    max_active_tasks: AtLeast1 = 1
    on_failure: str | None = None
    owner: str = "airflow"
    tags: tuple[str, ...] = ("tfx",)

    def __post_init__(self) -> None:
        try:
            datetime.date.fromisoformat(self.start_date)
        except ValueError:
            raise ValueError(f"start_date is {self.start_date!r}; it is a day such as '2025-01-01'") from None
        require(
            self.on_failure is None or re.fullmatch(r"\w+(\.\w+)+", self.on_failure) is not None,
            f"on_failure is {self.on_failure!r}; it is the dotted path of a function, such as company.alerts.page",
        )
