"""The gate's numbers as rows of tables: every slice and metric with its interval, beside the last blessed model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from core.artifacts.verdict import OVERALL
from core.metrics import LOWER_IS_BETTER
from pipeline.report.facts import Facts

_MAIN = "accuracy"
_FIRST = {"broken": 0, "doubt": 1, "kept": 2}


@dataclasses.dataclass(frozen=True)
class Range:
    """A value with its confidence limits; None where it is not known."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def sure(self) -> bool:
        """Of a change: whether zero lies outside the limits."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclasses.dataclass(frozen=True)
class SliceRow:
    """A line of the table of slices.

    Attributes:
        name: of the slice.
        examples: test images in it.
        accuracy: of the candidate.
        before: of the last blessed model, None if there is none or it was not measured.
        change: of accuracy, on the same images, None likewise.
        metrics: all others of the candidate, by name.
        limit: the least accuracy that the gate demands here, if any.
        failed: whether any bound is broken here.
    """

    name: str
    examples: int
    accuracy: Range
    before: Range | None
    change: Range | None
    metrics: dict[str, Range]
    limit: float | None
    failed: bool


@dataclasses.dataclass(frozen=True)
class MetricRow:
    """A metric of the whole split; `lower_is_better` says which way it should go."""

    name: str
    now: Range
    before: float | None
    change: Range | None
    lower_is_better: bool


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """One class against all others, as far as it can be told."""

    name: str
    examples: int
    precision: Range
    recall: Range
    f1: Range
    auc: Range


@dataclasses.dataclass(frozen=True)
class SliceClasses:
    """The classes of one slice, and their confusions.

    Attributes:
        name: of the slice.
        classes: those that it has, or that were told there.
        confusions: true class, what it was taken for, and how many images; right answers too, mistakes first.
    """

    name: str
    classes: list[ClassRow]
    confusions: list[tuple[str, str, int]]


@dataclasses.dataclass(frozen=True)
class Demand:
    """A bound that the gate judged, on one slice.

    Attributes:
        setting: what demands it, `per_slice.accuracy.min`.
        metric: its name.
        slice: where.
        bound: as in the setting; of `max_drop` the drop.
        examples: test images in the slice.
        found: the candidate's value.
        state: `broken`, `doubt` or `kept`.
        p: the chance that a model which keeps the bound looks this bad.
    """

    setting: str
    metric: str
    slice: str
    bound: float
    examples: int
    found: Range
    state: str
    p: float


def slice_rows(facts: Facts) -> list[SliceRow]:
    """The whole split first, then the slices, broken ones first, then by accuracy."""
    if not facts.gate:
        return []
    gate = facts.gate
    failed = {f["slice"] for f in gate["failures"]}
    limits = {j["slice"]: j["bound"] for j in gate["judged"] if j["metric"] == _MAIN and _kind(j["kind"]) == "min"}
    count = sum(c.splits.get("test", 0) for c in facts.data.classes) if facts.data else len(facts.predictions)
    overall = {
        "slice": OVERALL,
        "examples": count,
        "metrics": {name: {**m, "value": m[OVERALL]} for name, m in gate["metrics"].items()},
        "baseline": None
        if all(m["baseline"] is None for m in gate["metrics"].values())
        else {name: {"value": m["baseline"]} for name, m in gate["metrics"].items()},
        "change": {name: m["change"] for name, m in gate["metrics"].items()},
    }
    first, *rest = (_row(s, limits.get(s["slice"]), s["slice"] in failed) for s in [overall, *gate["slices"]])
    return [first, *sorted(rest, key=lambda row: (not row.failed, _or_last(row.accuracy.value), row.name))]


def overall_metrics(facts: Facts) -> list[MetricRow]:
    """Every metric of the whole split, in the gate's order."""
    metrics = facts.gate["metrics"] if facts.gate else {}
    return [
        MetricRow(name, _range({**m, "value": m[OVERALL]}), m["baseline"], _maybe(m["change"]), name in LOWER_IS_BETTER)
        for name, m in metrics.items()
    ]


def class_rows(facts: Facts) -> list[ClassRow]:
    """Every class on the whole split, in the model's order."""
    return [_class_row(c) for c in (facts.gate["classes"] if facts.gate else [])]


def classes_of_broken(facts: Facts) -> list[SliceClasses]:
    """For each slice on which a bound is broken."""
    if not facts.gate:
        return []
    failed = {failure["slice"] for failure in facts.gate["failures"]}
    found = []
    for record in facts.gate["slices"]:
        if record["slice"] in failed and record.get("classes"):  # earlier versions of the gate had none
            confusions = [(c["class"], c["predicted"], c["examples"]) for c in record["confusion"]]
            confusions.sort(key=lambda one: (one[0] == one[1], -one[2], one[0], one[1]))
            found.append(SliceClasses(record["slice"], [_class_row(c) for c in record["classes"]], confusions))
    return found


def demands(facts: Facts) -> list[Demand]:
    """What the gate judged: broken bounds first, then those of which it is in doubt."""
    found = [
        Demand(
            setting=setting_of(j["metric"], j["kind"]),
            metric=j["metric"],
            slice=j["slice"],
            bound=j["bound"],
            examples=j["examples"],
            found=_range(j),
            state=j["state"],
            p=j["p"],
        )
        for j in (facts.gate["judged"] if facts.gate else [])
    ]
    return sorted(found, key=lambda d: (_FIRST[d.state], d.slice != OVERALL, d.p))


def _class_row(record: Mapping[str, Any]) -> ClassRow:
    ranges = {name: _range(found) for name, found in record["metrics"].items()}
    return ClassRow(record["class"], record["examples"], **ranges)


def _row(record: Mapping[str, Any], limit: float | None, failed: bool) -> SliceRow:
    metrics = {name: _range(found) for name, found in record["metrics"].items()}
    before, change = record["baseline"] or {}, record["change"] or {}
    return SliceRow(
        name=record["slice"],
        examples=record["examples"],
        accuracy=metrics.pop(_MAIN, Range(None)),
        before=_maybe(before.get(_MAIN)),
        change=_maybe(change.get(_MAIN)),
        metrics=metrics,
        limit=limit,
        failed=failed,
    )


def setting_of(metric: str, kind: str) -> str:
    """The setting that demands it: `per_slice.accuracy.min`."""
    group = "per_slice" if kind != _kind(kind) else "thresholds"
    return f"{group}.{metric}.{_kind(kind)}"


def _kind(kind: str) -> str:
    return kind.removeprefix("per_slice_")


def _maybe(found: Mapping[str, float | None] | None) -> Range | None:
    return None if found is None else _range(found)


def _range(found: Mapping[str, float | None]) -> Range:
    return Range(found["value"], found.get("low"), found.get("high"))


def _or_last(value: float | None) -> float:
    return 2.0 if value is None else value
