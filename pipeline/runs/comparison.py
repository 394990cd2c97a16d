"""What differs between two runs: settings, and metrics by more than chance."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.evaluation import intervals, measures
from components.evaluation.calibration import calibration
from components.evaluation.class_means import change, class_means
from components.evaluation.intervals import CONFIDENCE, Interval
from components.evaluation.measures import CALIBRATION, JUDGED, MEANS, SHARES, Answers
from components.evaluation.significance import drop_at_most, holm
from core.artifacts.predictions import Prediction
from core.slices import LABEL, title
from pipeline.runs.history import Run

_RISK = 1 - CONFIDENCE


@dataclasses.dataclass(frozen=True)
class Change:
    """One metric of both runs; `low` and `high` limit B minus A, and where 0 lies outside it is `more_than_chance`."""

    metric: str
    a: float
    b: float
    low: float | None
    high: float | None
    more_than_chance: bool | None


@dataclasses.dataclass(frozen=True)
class SliceChange:
    """Accuracy on one slice of both runs; `p` is corrected for all slices."""

    slice: str
    examples: int
    a: float
    b: float
    p: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two runs.

    Attributes:
        a: the id of the one.
        b: of the other.
        settings: path -> its values in A and in B, where they differ; None where a run did not end.
        same_images: whether both were measured on the same test images, so that image is compared with image.
        metrics: all that both have.
        slices: where accuracy differs by more than chance, the surest first; only where the images are the same.
    """

    a: str
    b: str
    settings: dict[str, tuple[Any, Any]] | None
    same_images: bool
    metrics: list[Change]
    slices: list[SliceChange]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def compare(a: Run, b: Run) -> Comparison:
    """Compares two runs.

    Args:
        a: the one, such as the earlier.
        b: the other.
    """
    now, then = b.predictions(), a.predictions()
    same = bool(now) and [(p.path, p.sha256, p.label) for p in now] == [(p.path, p.sha256, p.label) for p in then]
    answers = _columns(a, then), _columns(b, now)
    known = [name for name in a.metrics if name in b.metrics]
    changes = [_change_of(name, a, b, answers if then and now else None, same) for name in known]
    return Comparison(
        a.id,
        b.id,
        None if a.settings is None or b.settings is None else differing(a.settings, b.settings),
        same,
        [one for one in changes if one is not None],
        _slices(then, *answers) if same else [],
    )


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings whose values differ, by their path; a setting that one run does not have is None there."""
    left, right = dict(_flat(a)), dict(_flat(b))
    keys = dict.fromkeys([*left, *right])
    return {key: (left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)}


def _flat(settings: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for key, value in settings.items():
        here = f"{path}.{key}" if path else str(key)
        lines += _flat(value, here) if isinstance(value, Mapping) and value else [(here, value)]
    return lines


def _columns(run: Run, predictions: Sequence[Prediction]) -> Answers:
    classes, scores = run.scores() or ([], None)
    names = dict.fromkeys([*classes, *(name for p in predictions for name in (p.label, p.predicted))])
    numbers = {name: number for number, name in enumerate(names)}
    return measures.columns([p.label for p in predictions], [p.answer for p in predictions], numbers, scores)


def _change_of(name: str, a: Run, b: Run, answers: tuple[Answers, Answers] | None, same: bool) -> Change | None:
    before, after = a.metrics[name].overall, b.metrics[name].overall
    if before is None or after is None:
        return None
    found = _interval(name, *answers, same) if answers and name in JUDGED else None
    if found is None:
        return Change(name, before, after, None, None, None)
    return Change(name, before, after, found.low, found.high, not found.low <= 0 <= found.high)


def _interval(name: str, then: Answers, now: Answers, same: bool) -> Interval | None:
    """Of B minus A: image by image where they are the same, else of two samples that know nothing of each other."""
    if not same:
        before, after = _alone(name, then), _alone(name, now)
        return intervals.unpaired_change(before, after) if before and after else None
    if name in SHARES:
        return intervals.paired_change(*measures.discordant(now, then, name), now.count)
    if name in MEANS:
        means = class_means(then).get(name), class_means(now).get(name)
        return change(means[1], means[0]).interval(CONFIDENCE) if means[0] and means[1] else None
    resampled = measures.resample([then, now])
    return resampled[1][name].minus(resampled[0][name]).interval(CONFIDENCE)


def _alone(name: str, answers: Answers) -> Interval | None:
    """Of one run; None for an area of a run that kept no scores."""
    if name in SHARES:
        return measures.share(answers, name, CONFIDENCE)
    if name in MEANS:
        mean = class_means(answers).get(name)
        return mean.interval(CONFIDENCE) if mean else None
    if name == CALIBRATION:
        return calibration(answers).interval(CONFIDENCE)
    return measures.resample([answers])[0][name].interval(CONFIDENCE)


def _slices(predictions: Sequence[Prediction], then: Answers, now: Answers) -> list[SliceChange]:
    """By every feature's every value; two-sided sign tests."""
    members: dict[str, list[int]] = {}
    for number, prediction in enumerate(predictions):
        for part in ((LABEL, prediction.label), *prediction.slices.items()):
            members.setdefault(title([part]), []).append(number)
    found = []
    for name, numbers in members.items():
        if len(numbers) == len(predictions):
            continue  # no part of the split
        before, after = then.of(np.array(numbers)), now.of(np.array(numbers))
        gained, lost = measures.discordant(after, before, "accuracy")
        evidence = drop_at_most(gained, lost, after.count, 0.0)
        p = min(1.0, 2 * min(evidence.broken, evidence.kept))
        a, b = (float(side.successes("accuracy").mean()) for side in (before, after))
        found.append(SliceChange(name, after.count, a, b, p))
    corrected = holm([change.p for change in found])
    surest = [dataclasses.replace(c, p=p) for c, p in zip(found, corrected, strict=True) if p <= _RISK]
    return sorted(surest, key=lambda change: change.p)


def plain(value: Any) -> str:
    """A setting's value on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
