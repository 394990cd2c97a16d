"""Problems in ingestion's record: too many files that cannot be used, contradicting labels, leaks."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Iterator, Sequence

from components.ingestion.file_names import is_read_me, kinds
from core.artifacts.ingest_record import (
    CONTRADICTING,
    FEW_BITS,
    INVISIBLE,
    MORE_BITS,
    NO_END,
    NO_PICTURE,
    SAME,
    DuplicateGroup,
    IngestCounts,
    Oddity,
    Reject,
)
from core.settings.abstain import AbstainConfig

_TITLES = {"identical": "the same image", "near": "near-duplicates", "group": "one group of data.group_by"}
_SHOWN = 10
_SHOWN_GROUPS = 3
_LARGE_GROUP = 0.05
_RARE = 10  # images of a class: few enough that the only ones may lie in groups that would be in eval or test
_DIFFERENT = (
    "if these are different images, as of a camera that does not move, set data.near_duplicates to null, or lower "
    "data.near_duplicates.distance"
)


def rejected(counts: IngestCounts, rejects: Iterable[Reject], most: float, where: str) -> list[str]:
    """A problem, if more than this fraction of the files cannot be used, or none can; `where` lists them all."""
    images = counts.read + counts.left_out
    files = counts.rejected + images
    if images and counts.rejected <= most * files:
        return []
    first = list(itertools.islice(rejects, _SHOWN))
    shown = "".join(f"\n    {reject.path}: {reject.reason}" for reject in first)
    more = f"\n    and {counts.rejected - _SHOWN} more" if counts.rejected > _SHOWN else ""
    found = f"{counts.rejected} of {files} files ({counts.rejected / max(files, 1):.1%}) cannot be used as images"
    if not images:
        return [f"{found}, and there are no others:{shown}{more}\n  All are listed in {where}"]
    large = any(reject.stage == "limits" for reject in first)
    limits = " (or, of what is too large, data.max_megapixels and data.max_file_mb)" if large else ""
    return [
        f"{found}; data.max_rejected allows {most:.1%}:{shown}{more}\n  Repair or remove them, name them in "
        f"data.ignore, or raise data.max_rejected{limits}. All are listed in {where}"
    ]


def no_pictures(counts: IngestCounts, ignored: Iterable[Reject], where: str) -> list[str]:
    """A problem, if more files are no pictures, by name or content, than are read; or if all of a class are none."""
    strange = [one for one in ignored if one.reason.startswith(NO_PICTURE) and not is_read_me(one.path)]
    by_class = collections.defaultdict(list)
    for one in strange:
        by_class[one.label].append(one.path)
    way = f"take them away, or name them in data.ignore. All are listed in {where}"
    if len(strange) > counts.read + counts.left_out + counts.rejected:
        found = kinds(one.path for one in strange)
        return [f"most of the files are no pictures: {found}, and {counts.read + counts.left_out:,} that are; {way}"]
    empty = [label for label, of in counts.classes.items() if not any((of.rejected, of.left_out, *of.splits.values()))]
    return [
        f"the class {label} has no pictures: {kinds(by_class[label])}; {way}, and its folder if it is no class"
        for label in empty
        if label in by_class
    ]


def contradictions(
    counts: IngestCounts, left_out: Iterable[Reject], most: float, where: str
) -> tuple[list[str], list[str]]:
    """Problems and notes about identical images of different classes, which are left out, at most this fraction.

    `where` lists them all.
    """
    found = [image for image in left_out if image.stage == CONTRADICTING]
    if not found:
        return [], []
    images = counts.read + counts.left_out
    reasons = list(dict.fromkeys(image.reason for image in found))
    more = f"; and {len(reasons) - _SHOWN_GROUPS} more" if len(reasons) > _SHOWN_GROUPS else ""
    message = (
        f"{len(found)} of {images} images ({len(found) / images:.2%}) are left out, since identical ones have other "
        f"labels (data.bounds.contradicting allows {most:.2%}): {'; '.join(reasons[:_SHOWN_GROUPS])}{more}"
    )
    if len(found) <= most * images:
        return [], [f"{message}; all are listed in left_out.jsonl of the data's record, and in the report"]
    return [
        f"{message}. Remove those whose label is wrong, or raise data.bounds.contradicting to train without them all. "
        f"They are listed in {where}"
    ], []


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
    kinds = {group.kind for group in across}
    or_groups = ", or their group is" if "group" in kinds else ""
    otherwise = f"\n  Of near-duplicates: {_DIFFERENT}" if "near" in kinds else ""
    message = (
        f"{len(leaked)} of {held_out} images of eval and test ({len(leaked) / held_out:.1%}) are in another split "
        f"too{or_groups}, so what is measured on them is not about new images (data.bounds.leaked allows {most:.1%}):"
        f"{shown}{otherwise}"
    )
    return ([message], []) if len(leaked) > most * held_out else ([], [message])


def why_empty(duplicates: Sequence[DuplicateGroup], counts: IngestCounts, group_by: str) -> str:
    """What may have left a split without images, and what to do."""
    held = _alike(duplicates, counts)
    if not held and counts.duplicates > counts.read / 2:
        held = f"{counts.duplicates} of {counts.read} images show the same as another and share its split; {_DIFFERENT}"
    groups = f"; images with the same {group_by} share a split (data.group_by): are there enough of these?"
    rare = sum(sum(of.splits.values()) < _RARE for of in counts.classes.values())
    if rare:
        groups += (
            f" {rare} classes have fewer than {_RARE} images, and what train needs of each takes its group along: "
            f"data.min_class_images: {_RARE} and data.small_classes: leave_out train without them"
        )
    return (
        f"add images, or give it a larger share in data.splits{groups if group_by else ''}{f'; {held}' if held else ''}"
    )


def too_few_to_show(counts: IngestCounts, abstain: AbstainConfig) -> list[str]:
    """A problem, if the eval split has fewer images than it takes to show the precision that is wanted."""
    images = counts.splits["eval"]
    if not 0 < images < abstain.least_images:
        return []
    more = "add some" if "eval" in counts.given else "add images, or give it a larger share in data.splits"
    return [
        f"the eval split has {images} of the {abstain.least_images} images that it takes to show abstain.precision "
        f"{abstain.precision:g}, even if all their labels are right: {more}; or lower it, or set abstain.probability"
    ]


def _alike(duplicates: Sequence[DuplicateGroup], counts: IngestCounts) -> str:
    """That very many images are alike, and what to do; "" if they are not."""
    largest = _largest(group for group in duplicates if group.kind in SAME)
    if largest is None or largest.leaks or len(largest.paths) <= max(_SHOWN, _LARGE_GROUP * counts.read):
        return ""
    kind = "one group of near-duplicates" if largest.kind == "near" else "the same"
    return (
        f"{len(largest.paths)} of {counts.read} images are {kind}, e.g. {', '.join(largest.paths[:3])}, and are all in "
        f"one split{f'; {_DIFFERENT}' if largest.kind == 'near' else ''}"
    )


def notes(duplicates: Sequence[DuplicateGroup], counts: IngestCounts) -> Iterator[str]:
    """Notes that need not stop a run."""
    yield from map(_oddity, counts.oddities, counts.oddities.values())
    if counts.duplicates:
        yield (
            f"{counts.duplicates} images show the same as another, exactly or nearly; those of a group share a split "
            "where the splits are made here, and the report lists them"
        )
    unsure = [group for group in duplicates if group.contradicts]
    if unsure:
        shown = "; ".join(_members(group, group.labels) for group in unsure[:_SHOWN_GROUPS])
        more = f"; and {len(unsure) - _SHOWN_GROUPS} more" if len(unsure) > _SHOWN_GROUPS else ""
        yield f"near-duplicates of different classes: {shown}{more}; some of the labels may be wrong"
    if held := _alike(duplicates, counts):
        yield held
    chain = _largest(group for group in duplicates if group.kind == "chain")
    if chain and set(counts.given) < set(counts.splits):
        yield (
            f"{len(chain.paths)} of {counts.read} images are tied by chains of near-duplicates, e.g. "
            f"{', '.join(chain.paths[:3])}: too many for one split, so they were divided, and images that look nearly "
            "the same may be in train and in test. If they are shots of one scene, name it in data.group_by; "
            f"{_DIFFERENT}"
        )


def _largest(groups: Iterable[DuplicateGroup]) -> DuplicateGroup | None:
    return max(groups, key=lambda group: len(group.paths), default=None)


def _oddity(name: str, oddity: Oddity) -> str:
    one = oddity.images == 1
    images, use, are = ("image", "uses", "is") if one else ("images", "use", "are")
    words = {
        NO_END: f"JPEG{'' if one else 's'} {'lacks its' if one else 'lack their'} end marker, and nothing else: read, "
        "with one",
        INVISIBLE: f"{images} {are} wholly transparent, so the network sees data.transparent alone; "
        "data.transparent=drop shows what is stored beneath",
        FEW_BITS: f"{images} of 16 bits {use} at most {oddity.most} of them, and {are} nearly black; if that is what "
        f"the sensor has, data.stretch={max(oddity.most, 8)} scales {'it' if one else 'them'}",
        MORE_BITS: f"{images} of 16 bits {use} up to {oddity.most} of them, more than data.stretch, and {are} scaled "
        "from all 16",
    }[name]
    return f"{oddity.images:,} {words} (e.g. {', '.join(oddity.paths)})"


def _members(group: DuplicateGroup, values: Sequence[str]) -> str:
    """Each path with its value; if there are many, the first of each value."""
    members = list(zip(group.paths, values, strict=True))
    if len(members) > 4:
        members = [members[values.index(value)] for value in dict.fromkeys(values)]
    shown = " and ".join(f"{path} ({value})" for path, value in members[:_SHOWN])
    more = len(group.paths) - min(len(members), _SHOWN)
    return shown + (f" and {more} more" if more else "")
