"""`heartbeat.json`: the progress of a run, rewritten while it goes on; the Prometheus metrics are made from it."""

from __future__ import annotations

import dataclasses
from typing import Literal

from core.artifacts.base import JsonFile
from core.artifacts.last_run import Status


@dataclasses.dataclass(frozen=True)
class StageBeat:
    """A stage that is running or has ended.

    Attributes:
        started: seconds since 1970, like all times here.
        seconds: how long it took, or has taken so far.
        done: how many `unit`s ("images", "steps") of `total` are finished; null if the stage does not report it.
    """

    state: Literal["running", "ended", "failed"]
    started: float
    seconds: float = 0.0
    cached: bool = False
    done: int | None = None
    total: int | None = None
    unit: str | None = None


@dataclasses.dataclass(frozen=True)
class Heartbeat:
    """A run at the time `at`.

    Attributes:
        run: identifies the run while ML Metadata has no name for it yet.
        status: how it ended; a run that was killed stays `running`, and its `at` no longer changes.
        last_success: when a run last ended with exit code 0.
        metrics: the model's, on the test split.
    """

    run: str
    status: Status | Literal["running"]
    started: float
    at: float
    exit_code: int | None = None
    last_success: float | None = None
    stages: dict[str, StageBeat] = dataclasses.field(default_factory=dict)
    failures: int = 0
    notes: int = 0
    images: dict[str, int] = dataclasses.field(default_factory=dict)
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    peak_rss_mb: int = 0
    freed_mb: float = 0.0


HEARTBEAT = JsonFile("heartbeat.json", Heartbeat)  # lies in the pipeline's folder
