"""`serving_check.json`, in ServingCheck's blessing: how the exported model did in a fresh server process."""

from __future__ import annotations

import dataclasses

from core.artifacts.base import Artifact, JsonFile

BLESSING = Artifact("ServingCheck", "blessing")
"""An InfraBlessing with the custom properties `BLESSED` and, if that is 0, `REASON`."""

INFRA_VALIDATOR_BLESSING = Artifact("InfraValidator", "blessing")
"""The blessing of TFX's own validator, if the settings choose it; it has `BLESSED` only."""

BLESSED, REASON = "blessed", "reason"

BLESSED_FILE, NOT_BLESSED_FILE = "INFRA_BLESSED", "INFRA_NOT_BLESSED"
"""Empty files, as in tfx/components/infra_validator/executor.py, which takes 16 s to import."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One check of the served model; `seconds` is None if it ran nothing of its own."""

    name: str
    passed: bool
    detail: str
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Latency:
    """Milliseconds from request to response: median, 95th and 99th percentile over `requests`."""

    median: float
    p95: float
    p99: float
    requests: int


@dataclasses.dataclass(frozen=True)
class ServingReport:
    """Whether the model serves, and what was measured; None for what the process did not get to.

    Attributes:
        reason: the first checks that failed, in words; None if all passed.
        checks: in the order they ran; those of the limits in the settings come last.
        process_seconds: from the start of the process to its end.
        latency_ms: of requests with one image.
        peak_rss_mb: peak memory of the process after all good requests, including TensorFlow.
        output: the last lines that the process printed, if it died.
    """

    blessed: bool
    reason: str | None
    checks: list[Check]
    process_seconds: float
    tensorflow: str | None = None
    load_seconds: float | None = None
    latency_ms: Latency | None = None
    peak_rss_mb: float | None = None
    output: str | None = None


SERVING_CHECK = JsonFile("serving_check.json", ServingReport)
