"""Which bounds a candidate keeps, breaks, or may do either: every bound on every slice it applies to, tested together.

The chance that a model which keeps all bounds is refused is at most 1 - confidence: half of it is spent on the bounds
of the whole split, half on those of all slices, each half by Holm's method.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from components.evaluation.significance import Evidence, detectable, holm
from components.evaluation.slice_result import SliceResult
from core.errors import InputError

State = Literal["kept", "broken", "doubt"]

KINDS = ("min", "max", "max_drop")

PER_SLICE = "per_slice_"
"""Before the kind of a bound that holds for slices."""

MIN_EXAMPLES = 30


@dataclasses.dataclass(frozen=True)
class Bound:
    """One demand, e.g. `thresholds.accuracy.min: 0.9`; `min_examples` is 0 for those on the whole split."""

    metric: str
    kind: str
    value: float
    min_examples: int


@dataclasses.dataclass(frozen=True)
class Judged:
    """A bound on one slice.

    Attributes:
        bound: what is demanded.
        result: where.
        state: `broken` or `kept` if the answers say so with confidence, else `doubt`.
        p: the chance that a model which keeps the bound looks this bad, corrected for all bounds of its family.
        tests: how many those are.
        detectable: how far beyond the bound a value must truly lie to be found so four times in five.
    """

    bound: Bound
    result: SliceResult
    state: State
    p: float
    tests: int
    detectable: float


def read_bounds(bounds: Mapping[str, Any], measured: Sequence[str]) -> tuple[list[Bound], list[Bound]]:
    """Those on the whole split, and those on slices.

    Raises:
        InputError: one is on a metric that is not in `measured`.
    """
    found: dict[str, list[Bound]] = {"thresholds": [], "per_slice": []}
    for group, demands in found.items():
        for metric, values in sorted(bounds.get(group, {}).items()):
            least = int(values.get("min_examples") or MIN_EXAMPLES) if group == "per_slice" else 0
            demands += [Bound(metric, k, float(values[k]), least) for k in KINDS if values.get(k) is not None]
        for unknown in sorted({bound.metric for bound in demands} - set(measured)):
            known = ", ".join(sorted(measured))
            raise InputError(f"evaluation.{group}.{unknown}: there is no such metric; measured are {known}")
    return found["thresholds"], found["per_slice"]


def judge_bounds(
    overall: SliceResult,
    slices: Sequence[SliceResult],
    bounds: Sequence[Bound],
    per_slice: Sequence[Bound],
    confidence: float,
) -> list[Judged]:
    """Tests all bounds that apply: with enough images, and for `max_drop` with a baseline.

    Args:
        overall: the whole split.
        slices: all others.
        bounds: on the whole split.
        per_slice: on slices.
        confidence: 0.95 is a risk of 0.05 to refuse a model that keeps all bounds.
    """
    families = [
        [(bound, overall) for bound in bounds if applies(bound, overall)],
        [(bound, one) for bound in per_slice for one in slices if applies(bound, one)],
    ]
    risk = (1 - confidence) / max(sum(bool(family) for family in families), 1)
    return [judged for family in families for judged in _judge_family(family, risk, 1 - confidence)]


def applies(bound: Bound, result: SliceResult) -> bool:
    """Whether a bound is to be judged on a slice."""
    if result.measured.examples < bound.min_examples or not result.can_judge(bound.metric):
        return False
    if bound.kind != "max_drop":
        return True
    return result.past is not None and math.isfinite(result.past.metrics.get(bound.metric, math.nan))


def _judge_family(family: Sequence[tuple[Bound, SliceResult]], risk: float, doubt: float) -> Iterator[Judged]:
    """`risk` is that of refusing wrongly, for all together; `doubt` that of being wrongly sure, for each alone."""
    evidence = [_evidence(bound, result) for bound, result in family]
    corrected = holm([e.broken for e in evidence])
    for (bound, result), e, p in zip(family, evidence, corrected, strict=True):
        state: State = "broken" if p <= risk else "kept" if e.kept <= doubt else "doubt"
        yield Judged(bound, result, state, p, len(family), detectable(e.error, risk / len(family)))


def _evidence(bound: Bound, result: SliceResult) -> Evidence:
    if not math.isfinite(result.measured.metrics.get(bound.metric, math.nan)):
        return Evidence(0.0, 1.0, math.inf)  # a metric that is no number keeps no bound
    return result.evidence(bound.metric, bound.kind, bound.value)
