"""Tests together all bounds on all slices they apply to: which a candidate keeps or breaks, and which are in doubt.

A model that keeps all bounds is refused with a chance of at most 1 - confidence. That risk is divided equally among the
bounds on the entire split, those on slices and those on exports, as far as there are any; each part uses Holm's method.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from components.evaluation.significance import PValues, detectable, holm
from components.evaluation.slice_result import SliceResult
from core.artifacts.predictions import BASELINE
from core.artifacts.verdict import State
from core.errors import InputError
from core.metrics import METRICS
from core.settings.evaluation import EvaluationSettings, Metric, MetricBounds, SliceBounds
from core.settings.export import ExportFormat


@dataclasses.dataclass(frozen=True)
class Bound:
    """One setting, such as `thresholds.accuracy.min: 0.9`; `min_examples` is 0 for a bound on the entire split.

    `group` is `thresholds`, `per_slice`, or `export.` and a format.
    """

    group: str
    metric: str
    kind: str
    value: float
    min_examples: int

    @property
    def setting(self) -> str:
        """Its path in `evaluation`."""
        return f"{self.group}.{self.metric}.{self.kind}"


@dataclasses.dataclass(frozen=True)
class Judged:
    """A bound on one slice, one of `tests` in its family; see `core.artifacts.verdict.JudgedBound` for the rest.

    `detectable` is how far beyond the bound the true value must lie to be detected four times out of five.
    """

    bound: Bound
    result: SliceResult
    state: State
    p: float
    tests: int
    detectable: float


def read_bounds(
    settings: EvaluationSettings, overall: SliceResult, exports: Iterable[ExportFormat] = ()
) -> list[Bound]:
    """All bounds that are set, on the candidate and on what it was converted to.

    Raises:
        InputError: the predictions for the entire split do not allow one of the metrics.
    """
    found: list[Bound] = []
    groups: dict[str, Mapping[Metric, MetricBounds]] = {
        "thresholds": settings.thresholds,
        "per_slice": settings.per_slice,
        **{f"export.{name}": settings.export_bounds(name) for name in exports},
    }
    for group, demands in groups.items():
        for metric, values in sorted(demands.items()):
            given = {kind: getattr(values, kind) for kind in ("min", "max", "max_drop")}
            limits = {kind: value for kind, value in given.items() if value is not None}
            if limits and not overall.estimates.of(metric):
                known = ", ".join(sorted(metric for metric in METRICS if overall.estimates.of(metric)))
                raise InputError(
                    f"evaluation.{group}.{metric}: the test images do not allow this metric; they allow {known}"
                )
            least = values.min_examples if isinstance(values, SliceBounds) else 0
            found += [Bound(group, metric, kind, value, least) for kind, value in limits.items()]
    return found


def judge_bounds(
    overall: SliceResult,
    slices: Sequence[SliceResult],
    bounds: Sequence[Bound],
    confidence: float,
    exports: Sequence[SliceResult] = (),
) -> list[Judged]:
    """Tests all bounds that apply: with enough images, and for `max_drop` with a baseline.

    `exports` are what the candidate was converted to, on the entire split. A `confidence` of 0.95 means a risk of 0.05
    of refusing a model that keeps all bounds.
    """
    on_slices = [(bound, one) for bound in bounds if bound.group == "per_slice" for one in slices]
    on_split = [(bound, overall) for bound in bounds if bound.group == "thresholds"]
    on_exports = [(bound, one) for one in exports for bound in bounds if bound.group == f"export.{one.export}"]
    families = [[pair for pair in pairs if applies(*pair)] for pairs in (on_split, on_slices, on_exports)]
    risk = (1 - confidence) / max(sum(bool(family) for family in families), 1)
    return [judged for family in families for judged in _judge_family(family, risk, 1 - confidence)]


def applies(bound: Bound, result: SliceResult) -> bool:
    """Whether a bound applies to a slice."""
    if result.examples < bound.min_examples or not result.estimates.of(bound.metric):
        return False
    return bound.kind != "max_drop" or result.value(bound.metric, BASELINE) is not None


def _judge_family(family: Sequence[tuple[Bound, SliceResult]], risk: float, doubt: float) -> Iterator[Judged]:
    """`risk`: of wrongly refusing, for the whole family; `doubt`: of being wrongly sure, for each bound alone."""
    tested = [_test(bound, result) for bound, result in family]
    corrected = holm([found.broken for found in tested])
    for (bound, result), found, p in zip(family, tested, corrected, strict=True):
        state: State = "broken" if p <= risk else "kept" if found.kept <= doubt else "doubt"
        yield Judged(bound, result, state, p, len(family), detectable(found.error, risk / len(family)))


def _test(bound: Bound, result: SliceResult) -> PValues:
    """Tests a bound that applies to the slice."""
    if result.value(bound.metric) is None:
        return PValues(0.0, 1.0, math.inf)  # a metric that is not finite keeps no bound
    if bound.kind == "max_drop" and (change := result.estimates.change(bound.metric)):
        return change.worse_by_at_most(bound.value)
    found = result.estimates.of(bound.metric)[0].at_least(bound.value)
    return found if bound.kind == "min" else found.reversed()
