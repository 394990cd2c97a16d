"""How the data differ from those of the last blessed model, and the splits from each other.

The measure is that of TFDV's drift and skew comparators, the L-infinity distance between two distributions: the largest
change of any value's share. A change counts only if it is not due to chance: it must exceed `_SIGMAS` standard errors
of the difference between two proportions. Without that, small splits would fail any bound.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from components.validation.data_problems import TRAIN, Paths, SplitFindings, such_images
from core.artifacts.ingest_record import ClassCounts
from core.errors import some
from core.examples import LABEL
from core.settings.data import DataBounds
from core.slices import is_slice, name_of

Counts = Mapping[str, int]

_SIGMAS = 4.0
_MOST_VALUES = 100  # more are names or numbers, not kinds
_SHOWN_CLASSES = 3


class Shift(NamedTuple):
    """The value whose share differs most, and its shares, as fractions."""

    value: str
    before: float
    now: float

    @property
    def distance(self) -> float:
        """L-infinity distance between the two distributions."""
        return abs(self.now - self.before)


def largest_shift(before: Counts, now: Counts, bound: float | None = 0.0) -> Shift | None:
    """The largest change of a value's share that is significant and beyond the bound; for ties, the rarest value's."""
    totals = sum(before.values()), sum(now.values())
    if bound is None or not all(totals):
        return None
    shifts = []
    for value in sorted({*before, *now}):
        counts = before.get(value, 0), now.get(value, 0)
        pooled = sum(counts) / sum(totals)
        error = math.sqrt(pooled * (1 - pooled) * (1 / totals[0] + 1 / totals[1]))
        shift = Shift(value, counts[0] / totals[0], counts[1] / totals[1])
        if shift.distance > max(bound, _SIGMAS * error):
            shifts.append(shift)
    return max(shifts, key=lambda shift: (round(shift.distance, 9), -shift.before - shift.now), default=None)


def drift(
    splits: Sequence[SplitFindings],
    baseline: Sequence[SplitFindings],
    bounds: DataBounds,
    excluded: Sequence[str],
    paths: Paths,
) -> Iterator[str]:
    """Problems: features whose distribution over all splits changed by more than their bound.

    Labels are compared only if the baseline lists all of them; otherwise `class_changes` says so.
    """
    names = [split.name for split in splits]
    for feature in _features(splits, excluded):
        if feature == LABEL and not all(split.lists_all_classes for split in baseline):
            continue
        name = "label_drift" if feature == LABEL else "image_drift"
        bound = getattr(bounds, name)
        shift = largest_shift(_pooled(baseline, feature), _pooled(splits, feature), bound)
        if shift is not None:
            images = such_images(paths, feature, shift.value, names) or "; no image has it now"
            yield (
                f"{name_of(feature)} drifted since the last blessed model's data: {shift.value!r} was "
                f"{shift.before:.1%} of the images and is {shift.now:.1%} (distance {shift.distance:.2f}; "
                f"data.bounds.{name} allows {bound:g}){images}"
            )


def skew(splits: Sequence[SplitFindings], bound: float | None, excluded: Sequence[str], paths: Paths) -> Iterator[str]:
    """Problems: features distributed differently in eval or test than in train; arguments as for `drift`."""
    train = [split for split in splits if split.name == TRAIN]
    for split in (split for split in splits if split.name != TRAIN):
        for feature in _features(splits, excluded):
            shift = largest_shift(_pooled(train, feature), _pooled([split], feature), bound)
            if shift is not None:
                yield (
                    f"{name_of(feature)} is skewed between train and {split.name}: {shift.value!r} is "
                    f"{shift.before:.1%} of train and {shift.now:.1%} of {split.name} (distance "
                    f"{shift.distance:.2f}; data.bounds.split_skew allows {bound:g})"
                    f"{such_images(paths, feature, shift.value, [split.name if shift.now > shift.before else TRAIN])}"
                )


def class_changes(
    splits: Sequence[SplitFindings], baseline: Sequence[SplitFindings], most: int | None, paths: Paths
) -> tuple[list[str], list[str]]:
    """Problems and notes: classes that appeared or disappeared since the last blessed model's data; None allows any."""
    if not all(split.lists_all_classes for split in baseline):
        return [], [
            "the classes were not compared with those of the last blessed model's data, of which the statistics list "
            "only the most frequent; the next blessed model's list all"
        ]
    before, now = set(_pooled(baseline, LABEL)), set(_pooled(splits, LABEL))
    if before == now:
        return [], []
    parts = [
        f"{len(classes)} {what}: {some(sorted(classes))}"
        for classes, what in ((now - before, "appeared"), (before - now, "vanished"))
        if classes
    ]
    names = [split.name for split in splits]
    files = [path for name in sorted(now - before)[:_SHOWN_CLASSES] for path in paths(LABEL, name, names)]
    such = f"; images of those that appeared: {', '.join(files)}" if files else ""
    message = f"classes changed since the last blessed model's data; {'; '.join(parts)}{such}"
    if most is not None and len(before ^ now) > most:
        return [f"{message} (data.bounds.class_changes allows {most})"], []
    return [], [message]


def balance(classes: Mapping[str, ClassCounts], least_share: float | None) -> list[str]:
    """A problem, if classes have a smaller share of train; None means no bound."""
    numbers = {name: counts.splits[TRAIN] for name, counts in classes.items()}
    total = sum(numbers.values())
    # Those without any are a matter of `data_problems.small_classes`.
    small = [(number, name) for name, number in numbers.items() if 0 < number < (least_share or 0) * total]
    if not small:
        return []
    shown = some([f"{name!r} ({number}, {number / total:.1%})" for number, name in sorted(small)])
    what = "class has" if len(small) == 1 else "classes have"
    return [f"{len(small)} {what} less of train than data.bounds.min_class_share demands, {least_share:.1%}: {shown}"]


def _features(splits: Sequence[SplitFindings], excluded: Sequence[str]) -> list[str]:
    """The label, and the slices that have few enough values to be kinds of images."""
    found = {".".join(f.path.step) for split in splits for data in split.statistics.datasets for f in data.features}
    kinds = [f for f in sorted(found) if is_slice(f) and f != LABEL and f not in excluded]
    return [LABEL, *(f for f in kinds if len(_pooled(splits, f)) <= _MOST_VALUES)]


def _pooled(splits: Sequence[SplitFindings], feature: str) -> Counts:
    return sum((collections.Counter(split.values(feature)) for split in splits), collections.Counter[str]())
