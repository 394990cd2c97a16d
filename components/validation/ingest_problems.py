"""What is wrong with what ingestion recorded: too many files that cannot be used, contradicting labels, leaks."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Iterator, Sequence

from components.ingestion.file_names import is_read_me, kinds
from core.artifacts.ingest_record import NO_PICTURE, DuplicateGroup, IngestCounts, Reject

_TITLES = {"identical": "the same image", "near": "near-duplicates", "group": "one group of data.group_by"}
_SHOWN = 10
_LARGE_GROUP = 0.05


def rejected(counts: IngestCounts, rejects: Iterable[Reject], most: float, where: str) -> list[str]:
    """A problem, if more than this fraction of the files cannot be used, or none can; `where` lists them all."""
    files = counts.rejected + counts.read
    if counts.read and counts.rejected <= most * files:
        return []
    shown = "".join(f"\n    {reject.path}: {reject.reason}" for reject in itertools.islice(rejects, _SHOWN))
    more = f"\n    and {counts.rejected - _SHOWN} more" if counts.rejected > _SHOWN else ""
    return [
        f"{counts.rejected} of {files} files ({counts.rejected / max(files, 1):.1%}) cannot be used as images; "
        f"data.max_rejected allows {most:.1%}:{shown}{more}\n  Repair or remove them, or raise data.max_rejected. All "
        f"are listed in {where}"
    ]


def no_pictures(counts: IngestCounts, ignored: Iterable[Reject], where: str) -> list[str]:
    """A problem, if more files are no pictures, by name or content, than are read; or if all of a class are none."""
    strange = [one for one in ignored if one.reason.startswith(NO_PICTURE) and not is_read_me(one.path)]
    by_class = collections.defaultdict(list)
    for one in strange:
        by_class[one.label].append(one.path)
    way = f"take them away, or name them in data.ignore. All are listed in {where}"
    if len(strange) > counts.read + counts.rejected:
        found = kinds(one.path for one in strange)
        return [f"most of the files are no pictures: {found}, and {counts.read:,} that are; {way}"]
    empty = [label for label, of in counts.classes.items() if not of.rejected and not sum(of.splits.values())]
    return [
        f"the class {label} has no pictures: {kinds(by_class[label])}; {way}, and its folder if it is no class"
        for label in empty
        if label in by_class
    ]


def contradictions(duplicates: Sequence[DuplicateGroup]) -> list[str]:
    """Problems: identical images of different classes, which no model could learn."""
    found = [group for group in duplicates if group.kind == "identical" and group.contradicts]
    problems = [
        f"the same image has {len(set(group.labels))} labels: {_members(group, group.labels)}; keep the right one"
        for group in found[:_SHOWN]
    ]
    return problems + ([f"{len(found) - _SHOWN} more images have several labels"] if len(found) > _SHOWN else [])


def leaks(duplicates: Sequence[DuplicateGroup], counts: IngestCounts, most: float) -> tuple[list[str], list[str]]:
    """Problems and notes about images that are in several of the splits that the layout gives.

    At most a fraction `most` of eval and test may have a duplicate, or one of their group, in another split.
    """
    across = [group for group in duplicates if group.leaks]
    held_out = counts.splits["eval"] + counts.splits["test"]
    members = (member for group in across for member in zip(group.paths, group.splits, strict=True))
    leaked = {path for path, split in members if split != "train"}
    if not leaked:
        return [], []
    shown = "".join(f"\n    {_TITLES[group.kind]}: {_members(group, group.splits)}" for group in across[:_SHOWN])
    or_groups = ", or their group is" if any(group.kind == "group" for group in across) else ""
    message = (
        f"{len(leaked)} of {held_out} images of eval and test ({len(leaked) / held_out:.1%}) are in another split "
        f"too{or_groups}, so what is measured on them is not about new images (data.bounds.leaked allows {most:.1%}):"
        f"{shown}"
    )
    return ([message], []) if len(leaked) > most * held_out else ([], [message])


def notes(duplicates: Sequence[DuplicateGroup], counts: IngestCounts) -> Iterator[str]:
    """What is worth knowing that need not stop a run."""
    if counts.duplicates:
        yield (
            f"{counts.duplicates} images show the same as another, exactly or nearly; those of a group share a split "
            "where the splits are made here, and the report lists them"
        )
    unsure = [group for group in duplicates if group.kind == "near" and group.contradicts]
    for group in unsure[:_SHOWN]:
        yield f"near-duplicates of different classes: {_members(group, group.labels)}; one of the labels may be wrong"
    alike = (group for group in duplicates if group.kind != "group")
    largest = max(alike, key=lambda group: len(group.paths), default=None)
    if largest and len(largest.paths) > max(_SHOWN, _LARGE_GROUP * counts.read):
        yield (
            f"{len(largest.paths)} of {counts.read} images are one group of near-duplicates, e.g. "
            f"{', '.join(largest.paths[:3])}, and are all in one split; if they are different images, lower "
            "data.near_duplicates.distance or set data.near_duplicates to null"
        )


def _members(group: DuplicateGroup, values: Sequence[str]) -> str:
    """Each path with its value; of many, the first of each value."""
    members = list(zip(group.paths, values, strict=True))
    if len(members) > 4:
        members = [members[values.index(value)] for value in dict.fromkeys(values)]
    shown = " and ".join(f"{path} ({value})" for path, value in members[:_SHOWN])
    more = len(group.paths) - min(len(members), _SHOWN)
    return shown + (f" and {more} more" if more else "")
