"""Which bounds a candidate keeps, breaks, or may do either: every bound on every slice it applies to, tested together.

The chance that a model which keeps all bounds is refused is at most 1 - confidence: it is spent in equal parts on the
bounds of the entire split, on those of all slices and on those of what the model was converted to, as far as there are
such, each part by Holm's method.
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
    """One setting, such as `thresholds.accuracy.min: 0.9`; `min_examples` is 0 where it is on the entire split.

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
    """A bound on one slice; `tests` are made in its family. `core.artifacts.verdict.JudgedBound` says what the rest is.

    `detectable` is how far beyond the bound a value must truly lie to be found so four times out of five.
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
        InputError: one is on a metric that the predictions for the entire split do not allow.
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

    `exports` are what the candidate was converted to, on the entire split. A `confidence` of 0.95 is a risk of 0.05 to
    refuse a model that keeps all bounds.
    """
    on_slices = [(bound, one) for bound in bounds if bound.group == "per_slice" for one in slices]
    on_split = [(bound, overall) for bound in bounds if bound.group == "thresholds"]
    on_exports = [(bound, one) for one in exports for bound in bounds if bound.group == f"export.{one.export}"]
    families = [[pair for pair in pairs if applies(*pair)] for pairs in (on_split, on_slices, on_exports)]
    risk = (1 - confidence) / max(sum(bool(family) for family in families), 1)
    return [judged for family in families for judged in _judge_family(family, risk, 1 - confidence)]


def applies(bound: Bound, result: SliceResult) -> bool:
    """Whether a bound is to be judged on a slice."""
    if result.examples < bound.min_examples or not result.estimates.of(bound.metric):
        return False
    return bound.kind != "max_drop" or result.value(bound.metric, BASELINE) is not None


def _judge_family(family: Sequence[tuple[Bound, SliceResult]], risk: float, doubt: float) -> Iterator[Judged]:
    """`risk` is that of refusing wrongly, for all together; `doubt` that of being wrongly sure, for each alone."""
    tested = [_test(bound, result) for bound, result in family]
    corrected = holm([found.broken for found in tested])
    for (bound, result), found, p in zip(family, tested, corrected, strict=True):
        state: State = "broken" if p <= risk else "kept" if found.kept <= doubt else "doubt"
        yield Judged(bound, result, state, p, len(family), detectable(found.error, risk / len(family)))


def _test(bound: Bound, result: SliceResult) -> PValues:
    """One that applies."""
    if result.value(bound.metric) is None:
        return PValues(0.0, 1.0, math.inf)  # a metric that is no number keeps no bound
    if bound.kind == "max_drop" and (change := result.estimates.change(bound.metric)):
        return change.worse_by_at_most(bound.value)
    found = result.estimates.of(bound.metric)[0].at_least(bound.value)
    return found if bound.kind == "min" else found.reversed()
