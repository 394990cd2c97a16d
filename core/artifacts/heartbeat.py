"""`heartbeat.json`: how far the run is, replaced while it goes on; what monitoring is told of it is made of this."""

from __future__ import annotations

import dataclasses
from typing import Literal

from core.artifacts.base import JsonFile
from core.artifacts.last_run import Status


@dataclasses.dataclass(frozen=True)
class StageBeat:
    """A stage that runs, or has ended.

    Attributes:
        started: seconds since 1970, as all times here.
        seconds: how long it took, or has taken so far.
        done: how many `unit`s ("images", "steps") are finished, of `total`; null where it does not say.
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
    """A run, as it is at the time `at`.

    Attributes:
        run: stands for the run, while ML Metadata has no name for it yet.
        status: how it ended; `running` also of one that was killed, whose `at` no longer moves.
        last_success: when a run last ended with exit code 0.
        metrics: of the model, on the test split.
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
