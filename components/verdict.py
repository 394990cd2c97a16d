"""The gate's rules: measured metrics and bounds in, a verdict with a sentence for every failure out. No TFX here.

Bounds, as JSON (null or absent demands nothing):

    {"thresholds": {"accuracy": {"min": 0.9, "max": null, "max_drop": 0.01}},
     "per_slice": {"accuracy": {"min": 0.7, "max": null, "min_examples": 30}}}

A slice with fewer images than `min_examples` is not judged: it would fail by chance.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from trainer.errors import InputError

OVERALL = "overall"

LOWER_IS_BETTER = frozenset({"cross_entropy"})
"""Metrics whose drop in quality is a rise in value."""

# TFMA's Keras metrics are float32: 0.9 comes back as 0.899999976.
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Measured:
    """What TFMA measured of one model on one slice.

    Attributes:
        slice: e.g. `label=roses`, or `overall` for the whole split.
        examples: number of images in it.
        metrics: values by name, NaN where TFMA could not tell.
    """

    slice: str
    examples: int
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Failure:
    """One bound that the candidate breaks.

    Attributes:
        metric: its name.
        slice: where, as in `Measured`.
        value: of the candidate; None where it is not a finite number, which JSON cannot hold.
        bound: that the value breaks; for `max_drop` the value that was still allowed.
        kind: which bound it is.
        message: all of it in a sentence.
    """

    metric: str
    slice: str
    value: float | None
    bound: float
    kind: Literal["min", "max", "max_drop", "per_slice_min", "per_slice_max"]
    message: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether the candidate is blessed, and all it was judged by."""

    blessed: bool
    metrics: dict[str, dict[str, float | None]]
    slices: list[dict[str, Any]]
    failures: list[Failure]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def judge(candidate: Sequence[Measured], baseline: Sequence[Measured] | None, bounds: Mapping[str, Any]) -> Verdict:
    """Judges a candidate.

    Args:
        candidate: the whole split (`overall`) and the slices.
        baseline: the same of the last blessed model; None if there is none.
        bounds: see the module's docstring.

    Raises:
        InputError: a bounded metric is not measured, or nothing was measured at all.
    """
    if OVERALL not in {m.slice for m in candidate}:
        raise InputError("the evaluation measured nothing: is the test split empty?")
    overall = next(m for m in candidate if m.slice == OVERALL)
    slices = sorted((m for m in candidate if m.slice != OVERALL), key=lambda m: m.slice)
    before = {m.slice: m for m in baseline or []}
    thresholds, per_slice = _demands(bounds, "thresholds"), _demands(bounds, "per_slice")
    for group, demands in (("thresholds", thresholds), ("per_slice", per_slice)):
        for unknown in sorted(set(demands) - set(overall.metrics)):
            known = ", ".join(sorted(overall.metrics))
            raise InputError(f"evaluation.{group}.{unknown}: there is no such metric; measured are {known}")
    notes: list[str] = []
    failures = [
        *_overall_failures(overall, before.get(OVERALL), thresholds, notes),
        *_slice_failures(slices, per_slice, notes),
    ]
    if not thresholds and not per_slice:
        notes.append("nothing is demanded of the model: set evaluation.thresholds to have it judged")
    return Verdict(
        blessed=not failures,
        metrics={
            name: {OVERALL: _finite(value), "baseline": _value(before.get(OVERALL), name)}
            for name, value in overall.metrics.items()
        },
        slices=[_slice_record(m, before.get(m.slice)) for m in slices],
        failures=failures,
        notes=notes,
    )


def _demands(bounds: Mapping[str, Any], group: str) -> dict[str, dict[str, float]]:
    """The bounds that are set, by metric; metrics without any are left out."""
    given = {name: {k: v for k, v in b.items() if v is not None} for name, b in bounds.get(group, {}).items()}
    return {name: b for name, b in given.items() if set(b) - {"min_examples"}}


def _overall_failures(
    measured: Measured, before: Measured | None, thresholds: Mapping[str, Mapping[str, float]], notes: list[str]
) -> Iterator[Failure]:
    for metric, bounds in thresholds.items():
        value = measured.metrics[metric]
        yield from _outside(metric, measured, bounds, "")
        if "max_drop" not in bounds:
            continue
        past = _value(before, metric)
        if past is None:
            why = (
                "there is no blessed model to compare with (none yet, or one with other classes, or its files are gone)"
                if before is None
                else f"the blessed model's {metric} is not a number"
            )
            notes.append(f"max_drop of {metric} does not apply: {why}")
            continue
        sign = -1 if metric in LOWER_IS_BETTER else 1
        bound = past - sign * bounds["max_drop"]
        if not _reaches(value, bound, sign):
            verb = "rises" if sign < 0 else "drops"
            message = (
                f"{metric} {verb} from {past:.4f} (the blessed model) to {_shown(value)} "
                f"on {measured.examples} test images; by at most {bounds['max_drop']:g} is allowed"
            )
            yield Failure(metric, OVERALL, _finite(value), bound, "max_drop", message)


def _slice_failures(
    slices: Sequence[Measured], per_slice: Mapping[str, Mapping[str, float]], notes: list[str]
) -> Iterator[Failure]:
    for metric, bounds in per_slice.items():
        fewest = int(bounds.get("min_examples", 0))
        small = [m for m in slices if m.examples < fewest]
        for measured in slices:
            if measured.examples >= fewest:
                yield from _outside(metric, measured, bounds, "per_slice_")
        if not slices:
            notes.append(f"per_slice.{metric} does not apply: evaluation.slices names no slices")
        elif small:
            names = ", ".join(f"{m.slice} ({m.examples})" for m in small)
            notes.append(
                f"{len(small)} of {len(slices)} slices have fewer than {fewest} test images "
                f"and were not judged by {metric}: {names}"
            )


def _outside(
    metric: str, measured: Measured, bounds: Mapping[str, float], prefix: Literal["", "per_slice_"]
) -> Iterator[Failure]:
    """Failures by `min` and `max`."""
    value = measured.metrics.get(metric, math.nan)
    where = "" if measured.slice == OVERALL else f" on the slice {measured.slice}"
    for side, sign, word in (("min", 1, "at least"), ("max", -1, "at most")):
        if side in bounds and not _reaches(value, bounds[side], sign):
            message = (
                f"{metric} is {_shown(value)}{where} ({measured.examples} test images); "
                f"{word} {bounds[side]:g} is demanded"
            )
            kind: Any = f"{prefix}{side}"
            yield Failure(metric, measured.slice, _finite(value), bounds[side], kind, message)


def _reaches(value: float, bound: float, sign: int) -> bool:
    """Whether the value is on the good side of the bound: not below it, or with `sign` -1 not above. NaN never is."""
    return math.isfinite(value) and sign * (value - bound) >= -_ROUNDING


def _shown(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "not a finite number"


def _slice_record(measured: Measured, before: Measured | None) -> dict[str, Any]:
    return {
        "slice": measured.slice,
        "examples": measured.examples,
        "metrics": {name: _finite(value) for name, value in measured.metrics.items()},
        "baseline": {name: _finite(value) for name, value in before.metrics.items()} if before else None,
    }


def _value(measured: Measured | None, metric: str) -> float | None:
    return _finite(measured.metrics.get(metric, math.nan)) if measured else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
