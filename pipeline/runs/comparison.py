"""What differs between two runs: settings, and metrics that differ by more than chance."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from components.evaluation.intervals import CONFIDENCE, unpaired_change
from components.evaluation.metrics import Estimates, Fraction
from components.evaluation.predictions import Predictions, columns
from components.evaluation.significance import holm
from core.artifacts.predictions import CANDIDATE, Prediction
from core.examples import LABEL
from core.slices import title
from pipeline.runs.history import Run

_RISK = 1 - CONFIDENCE


@dataclasses.dataclass(frozen=True)
class Change:
    """One metric of both runs; `low` and `high` bound B minus A, which is `more_than_chance` if 0 lies outside."""

    metric: str
    a: float
    b: float
    low: float | None
    high: float | None
    more_than_chance: bool | None


@dataclasses.dataclass(frozen=True)
class SliceChange:
    """Both runs' accuracy on one slice; `p` is corrected for testing all slices."""

    slice: str
    examples: int
    a: float
    b: float
    p: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two runs, by their ids.

    Attributes:
        settings: path -> its values in A and in B, where they differ; None where a run did not end.
        same_images: whether both were measured on the same test images, which are then compared one by one.
        metrics: all that both have.
        slices: where accuracy differs by more than chance, the surest first; empty if the images differ.
    """

    a: str
    b: str
    settings: dict[str, tuple[Any, Any]] | None
    same_images: bool
    metrics: list[Change]
    slices: list[SliceChange]


def compare(a: Run, b: Run) -> Comparison:
    """Compares two runs."""
    now, then = b.predictions(), a.predictions()
    same = bool(now) and [(p.path, p.sha256, p.label) for p in now] == [(p.path, p.sha256, p.label) for p in then]
    after, before = _columns(b, now), _columns(a, then)
    estimates = [Estimates(after, before)] if same else [Estimates(before), Estimates(after)] if now and then else []
    return Comparison(
        a.id,
        b.id,
        None if a.settings is None or b.settings is None else differing(a.settings, b.settings),
        same,
        [change for name in a.metrics if name in b.metrics and (change := _change_of(name, a, b, estimates))],
        _slices(then, before, after) if same else [],
    )


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings whose values differ, by their path; a setting that one run does not have is None there."""
    left, right = dict(flattened(a)), dict(flattened(b))
    keys = dict.fromkeys([*left, *right])
    return {key: (left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)}


def flattened(settings: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """Every setting's path and value."""
    lines: list[tuple[str, Any]] = []
    for key, value in settings.items():
        here = f"{path}.{key}" if path else str(key)
        lines += flattened(value, here) if isinstance(value, Mapping) and value else [(here, value)]
    return lines


def _columns(run: Run, predictions: Sequence[Prediction]) -> Predictions:
    scores = run.scores()
    return columns([p.label for p in predictions], predictions, scores.classes, scores.bins.get(CANDIDATE))


def _change_of(metric: str, a: Run, b: Run, estimates: Sequence[Estimates]) -> Change | None:
    """`estimates` are of both runs together if the images are the same, otherwise of A and of B."""
    before, after = a.metrics[metric].overall, b.metrics[metric].overall
    if before is None or after is None:
        return None
    if len(estimates) == 1:
        change = estimates[0].change(metric)
        found = change.interval(CONFIDENCE) if change else None
    else:
        each = [estimate.interval(CONFIDENCE) for one in estimates for estimate in one.of(metric)]
        found = unpaired_change(*each) if len(each) == 2 else None
    if found is None:
        return Change(metric, before, after, None, None, None)
    return Change(metric, before, after, found.low, found.high, not found.low <= 0 <= found.high)


def _slices(predictions: Sequence[Prediction], then: Predictions, now: Predictions) -> list[SliceChange]:
    """Two-sided sign tests on every value of every feature."""
    members: dict[str, list[int]] = {}
    for number, prediction in enumerate(predictions):
        for part in ((LABEL, prediction.label), *prediction.slices.items()):
            members.setdefault(title([part]), []).append(number)
    found = []
    for name, numbers in members.items():
        if len(numbers) == len(predictions):
            continue  # no part of the split
        before, after = (Fraction(side.right[numbers]) for side in (then, now))
        drop = after.change_from(before).worse_by_at_most(0.0)
        p = min(1.0, 2 * min(drop.broken, drop.kept))
        found.append(SliceChange(name, len(numbers), before.value, after.value, p))
    corrected = holm([change.p for change in found])
    surest = [dataclasses.replace(c, p=p) for c, p in zip(found, corrected, strict=True) if p <= _RISK]
    return sorted(surest, key=lambda change: change.p)


def plain(value: Any) -> str:
    """A setting's value on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
