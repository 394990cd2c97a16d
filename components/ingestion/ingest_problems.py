"""What ingestion found, told to the data's owner: too many files that cannot be used, one picture twice, leaks.

Pure functions on what `ingest_record` holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.ingestion.image_splits import GROUP, IDENTICAL, NEAR, Duplicates

_SPOKEN = {IDENTICAL: "the same picture", NEAR: "near-duplicates", GROUP: "one group of data.group_by"}
_SHOWN = 10
_LARGE_GROUP = 0.05


def rejected(counts: Mapping[str, Any], first: Sequence[Mapping[str, str]], most: float, where: str) -> list[str]:
    """A problem, if more than `most` of the files cannot be used, or none can.

    Args:
        counts: `ingest_record.COUNTS_FILE`'s.
        first: some of the rejects, to be shown.
        most: the part of the files that may be rejected.
        where: the file that lists all.
    """
    number, files = counts["rejected"], counts["rejected"] + counts["read"]
    if counts["read"] and number <= most * files:
        return []
    shown = "".join(f"\n    {reject['path']}: {reject['reason']}" for reject in first[:_SHOWN])
    more = f"\n    and {number - _SHOWN} more" if number > _SHOWN else ""
    return [
        f"{number} of {files} files ({number / max(files, 1):.1%}) cannot be used as images; data.max_rejected allows "
        f"{most:.1%}:{shown}{more}\n  Repair or remove them, or raise data.max_rejected. All are listed in {where}"
    ]


def contradictions(duplicates: Sequence[Duplicates]) -> list[str]:
    """Problems: identical pictures of different classes, which nobody could learn."""
    twice = [group for group in duplicates if group.kind == IDENTICAL and len(set(group.labels)) > 1]
    told = [
        f"the same picture has {len(set(group.labels))} labels: {_members(group, group.labels)}; keep the right one"
        for group in twice[:_SHOWN]
    ]
    return told + ([f"{len(twice) - _SHOWN} more pictures have several labels"] if len(twice) > _SHOWN else [])


def leaks(duplicates: Sequence[Duplicates], counts: Mapping[str, Any], most: float) -> tuple[list[str], list[str]]:
    """Problems and notes about pictures that are in several of the splits that the layout gives.

    Args:
        duplicates: all that were found.
        counts: `ingest_record.COUNTS_FILE`'s.
        most: the part of the pictures outside of train that may have a duplicate, or one of their group, in another
            split.
    """
    across = [group for group in duplicates if len(set(group.splits)) > 1]
    held_out = sum(counts[split] for split in ("eval", "test"))
    leaked = {
        path for group in across for path, split in zip(group.paths, group.splits, strict=True) if split != "train"
    }
    if not leaked:
        return [], []
    shown = "".join(f"\n    {_SPOKEN[group.kind]}: {_members(group, group.splits)}" for group in across[:_SHOWN])
    or_groups = ", or their group is" if any(group.kind == GROUP for group in across) else ""
    told = (
        f"{len(leaked)} of {held_out} pictures of eval and test ({len(leaked) / held_out:.1%}) are in another split "
        f"too{or_groups}, so what is measured on them is not about new pictures (data.bounds.leaked allows {most:.1%}):"
        f"{shown}"
    )
    return ([told], []) if len(leaked) > most * held_out else ([], [told])


def notes(duplicates: Sequence[Duplicates], counts: Mapping[str, Any]) -> Iterator[str]:
    """What is worth telling that need not stop a run."""
    if counts["duplicates"]:
        yield (
            f"{counts['duplicates']} pictures show the same as another, exactly or nearly; those of a group share a "
            "split where the splits are made here, and the report lists them"
        )
    unsure = [group for group in duplicates if group.kind == NEAR and len(set(group.labels)) > 1]
    for group in unsure[:_SHOWN]:
        yield f"near-duplicates of different classes: {_members(group, group.labels)}; one of the labels may be wrong"
    alike = (group for group in duplicates if group.kind != GROUP)
    largest = max(alike, key=lambda group: len(group.paths), default=None)
    if largest and len(largest.paths) > max(_SHOWN, _LARGE_GROUP * counts["read"]):
        yield (
            f"{len(largest.paths)} of {counts['read']} pictures are one group of near-duplicates, e.g. "
            f"{', '.join(largest.paths[:3])}, and are all in one split; if they are different pictures, lower "
            "data.near_duplicates.distance or set data.near_duplicates to null"
        )


def _members(group: Duplicates, values: Sequence[str]) -> str:
    """Each path with its value; of many, the first of each value."""
    members = list(zip(group.paths, values, strict=True))
    if len(members) > 4:
        members = [members[values.index(value)] for value in dict.fromkeys(values)]
    shown = " and ".join(f"{path} ({value})" for path, value in members[:_SHOWN])
    more = len(group.paths) - min(len(members), _SHOWN)
    return shown + (f" and {more} more" if more else "")
