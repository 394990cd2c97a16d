"""In which order the report shows what the gate measured and judged."""

from __future__ import annotations

import math

from core.artifacts.verdict import OVERALL, JudgedBound, SliceMetrics, Verdict

MAIN = "accuracy"
"""The metric that stands beside every slice."""

_STATES = ("broken", "doubt", "kept")


def sorted_slices(verdict: Verdict) -> list[SliceMetrics]:
    """The whole split, then the slices: those of failures first, then by accuracy."""
    failed = failed_slices(verdict)

    def place(measured: SliceMetrics) -> tuple[bool, float, str]:
        accuracy = measured.metrics[MAIN].value if MAIN in measured.metrics else None
        return measured.slice not in failed, math.inf if accuracy is None else accuracy, measured.slice

    return [verdict.overall, *sorted(verdict.slices, key=place)]


def failed_slices(verdict: Verdict) -> set[str]:
    """Names of the slices on which a bound refuses the model."""
    return {failure.slice for failure in verdict.failures}


def sorted_bounds(verdict: Verdict) -> list[JudgedBound]:
    """Broken bounds first, then those in doubt."""
    return sorted(verdict.judged, key=lambda j: (_STATES.index(j.state), j.slice != OVERALL, j.p))


def accuracy_limits(verdict: Verdict) -> dict[str, float]:
    """The least accuracy that the gate demands, by slice."""
    return {j.slice: j.bound for j in verdict.judged if j.metric == MAIN and j.setting.endswith(".min")}


def setting_of(metric: str, kind: str) -> str:
    """The setting behind a failure of that kind: `per_slice.accuracy.min`."""
    bound = kind.removeprefix("per_slice_")
    return f"{'thresholds' if bound == kind else 'per_slice'}.{metric}.{bound}"
