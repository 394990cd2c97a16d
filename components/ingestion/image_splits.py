"""Which split each image goes to, so that identical or nearly identical images, and groups, are in one split only.

Everything that belongs together is a connected component of images: with the same pixels, in the same group
(`data.group_by`), or near-duplicates. A component has one split, decided by the hash of one of its members: so an image
stays in its split as the data grow, unless a new one ties it to another, or its class has so few images that it is
needed in train. Images that cannot be learned from are in no split.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from components.ingestion import near_duplicates
from core.artifacts.ingest_record import CONTRADICTING, SMALL_CLASS, DuplicateGroup, Kind, Reject
from core.errors import some
from core.settings.data import IngestionConfig


class ImageFacts(NamedTuple):
    """What is kept about an image to find those it belongs with; some 500 bytes.

    Attributes:
        split: given by the layout, or "".
        group: its value of `data.group_by`, or "".
        sha256: of the file.
        pixels: SHA-256 of the pixels.
        hash: from `near_duplicates.describe`, like `thumbnail`.
        oddities: what is odd about it; see `core.artifacts.ingest_record.IngestCounts`.
    """

    path: str
    label: str
    split: str
    group: str
    sha256: str
    pixels: str
    hash: int | None = None
    thumbnail: bytes = b""
    oddities: dict[str, int] = {}  # noqa: RUF012 (never changed)


@dataclasses.dataclass(frozen=True)
class Assignment:
    """Which split each image is in, or why it is in none.

    Attributes:
        splits: path -> split, for all images that are not left out.
        left_out: those, with the reason, in the order of their paths.
        duplicates: among the images in the splits, in the order of their first paths.
    """

    splits: dict[str, str]
    left_out: list[Reject]
    duplicates: list[DuplicateGroup]


def assign(facts: Iterable[ImageFacts], config: IngestionConfig, given: Iterable[str] = ()) -> Assignment:
    """Decides the splits.

    First, identical images of different classes are left out, as if they did not exist. Splits that the layout gives
    stay as they are: those that images are in, and `given`, whose files may all be unusable. The others are made from
    the training images, in proportion to `config.splits`; what belongs together with an image in another given split
    stays in train. Finally, if `config.small_classes` says so, classes with too few images in train are left out of all
    splits.
    """
    images, left_out = _without_contradictions(sorted(facts))
    identical = _equal(image.pixels for image in images)
    near, chains = _near(images, identical, config.near_duplicates.distance if config.near_duplicates else None)
    alike = _connected(identical, near)
    groups = _equal(image.group for image in images)
    splits = _splits(images, _connected(alike, groups), config, given)
    if config.small_classes == "leave_out":
        kept, small = _without_small_classes(images, splits, config.min_class_images)
        left_out += small
        images, splits = [images[place] for place in kept], [splits[place] for place in kept]
        identical, alike, groups, chains = (numbers[kept] for numbers in (identical, alike, groups, chains))
    return Assignment(
        {image.path: split for image, split in zip(images, splits, strict=True)},
        sorted(left_out),
        _duplicates(
            images, splits, identical, {"identical": identical, "near": alike, "group": groups, "chain": chains}
        ),
    )


def _without_contradictions(images: Sequence[ImageFacts]) -> tuple[list[ImageFacts], list[Reject]]:
    """Places of the images except those whose pixels have several labels, which no model could learn; and those."""
    labels = collections.defaultdict[str, set[str]](set)
    for image in images:
        labels[image.pixels].add(image.label)
    same = collections.defaultdict[str, list[ImageFacts]](list)
    for image in images:
        if len(labels[image.pixels]) > 1:
            same[image.pixels].append(image)
    left_out = []
    for copies in same.values():
        of_label = {image.label: image.path for image in reversed(copies)}
        shown = some([f"{label} ({of_label[label]})" for label in sorted(of_label)])
        reason = f"the same image has {len(of_label)} labels: {shown}"
        left_out += [Reject(image.path, image.label, CONTRADICTING, reason) for image in copies]
    return [image for image in images if image.pixels not in same], left_out


def _without_small_classes(
    images: Sequence[ImageFacts], splits: Sequence[str], least: int
) -> tuple[np.ndarray, list[Reject]]:
    """The places of the images whose class has at least that many in train; and all others."""
    in_train = collections.Counter(image.label for image, split in zip(images, splits, strict=True) if split == "train")
    reasons = {
        label: f"its class has {in_train[label]} images in train; data.min_class_images demands {least}"
        for label in {image.label for image in images}
        if in_train[label] < least
    }
    kept = np.flatnonzero([image.label not in reasons for image in images])
    small = [image for image in images if image.label in reasons]
    return kept, [Reject(image.path, image.label, SMALL_CLASS, reasons[image.label]) for image in small]


def _equal(values: Iterable[str]) -> np.ndarray:
    """A number for each value, the same for equal values, -1 for empty ones: int64 [n]."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) if value else -1 for value in values], np.int64)


def _connected(*numbers: np.ndarray) -> np.ndarray:
    """A number for each place, the same for places that share any number other than -1: int64 [n]."""
    edges = []
    for values in numbers:
        order = np.argsort(values, kind="stable")
        same = (values[order][1:] == values[order][:-1]) & (values[order][1:] >= 0)
        edges.append(np.stack([order[:-1][same], order[1:][same]], axis=1))
    return near_duplicates.components(len(numbers[0]), np.concatenate(edges))


def _near(images: Sequence[ImageFacts], identical: np.ndarray, distance: int | None) -> tuple[np.ndarray, np.ndarray]:
    """`near_duplicates.groups` of the images, -1 for none; only the first of identical images is compared."""
    found, divided = np.full((2, len(images)), -1, np.int64)
    if distance is None:
        return found, divided
    _, first = np.unique(identical, return_index=True)
    comparable = [place for place in first if images[place].hash is not None]
    chosen = np.array(sorted(comparable, key=lambda place: images[place].sha256), np.int64)
    hashes = np.array([images[place].hash for place in chosen], np.uint64)
    thumbnails = np.frombuffer(b"".join(images[place].thumbnail for place in chosen), np.uint8)
    shape = len(chosen), near_duplicates.THUMBNAIL**2
    found[chosen], divided[chosen] = near_duplicates.groups(hashes, thumbnails.reshape(shape), distance, len(images))
    return found, divided


def _splits(
    images: Sequence[ImageFacts], together: np.ndarray, config: IngestionConfig, given: Iterable[str]
) -> list[str]:
    kept = {*given, *(image.split for image in images)} - {"", "train"}
    free = {split: weight for split, weight in config.splits.items() if split not in kept}
    names, ends = list(free), list(itertools.accumulate(free.values()))
    keys: dict[int, str] = {}
    bound: set[int] = set()
    for image, component in zip(images, together.tolist(), strict=True):
        key = hashlib.sha256(image.group.encode()).hexdigest() if image.group else image.sha256
        keys[component] = min(key, keys.get(component, key))
        if image.split not in ("", "train"):
            bound.add(component)
    # Train's buckets come first: a class's images that are in train anyway count before others are put there.
    buckets = {c: 0 if c in bound else int(key, 16) % ends[-1] for c, key in keys.items()}
    sizes = collections.defaultdict[str, collections.Counter[int]](collections.Counter)
    for image, component in zip(images, together.tolist(), strict=True):
        if image.split in ("", "train"):
            sizes[image.label][component] += 1
    in_train: set[int] = set()
    for size in sizes.values():
        missing = config.min_class_images
        if size.total() < missing and config.small_classes == "leave_out":
            continue  # its groups are not needed in train
        for component in sorted(size, key=lambda c: (buckets[c], keys[c])):
            if missing > 0:
                in_train.add(component)
                missing -= size[component]
    splits = []
    for image, component in zip(images, together.tolist(), strict=True):
        if image.split not in ("", "train"):
            splits.append(image.split)
        else:
            splits.append("train" if component in in_train else names[bisect.bisect(ends, buckets[component])])
    return splits


def _duplicates(
    images: Sequence[ImageFacts], splits: Sequence[str], identical: np.ndarray, kinds: dict[Kind, np.ndarray]
) -> list[DuplicateGroup]:
    """The numbered groups of each kind that are worth reporting."""
    found = []
    for kind, numbers in kinds.items():
        order = np.argsort(numbers, kind="stable")
        order = order[numbers[order] >= 0]
        starts = np.flatnonzero(np.diff(numbers[order], prepend=-2))
        for places in np.split(order, starts[1:]) if len(order) else []:
            members = [images[place] for place in places]
            group = DuplicateGroup(
                kind, [m.path for m in members], [m.label for m in members], [splits[place] for place in places]
            )
            distinct = len(set(group.splits) if kind == "group" else set(identical[places]))
            if distinct > 1 or (kind == "identical" and len(members) > 1):
                found.append(group)
    return sorted(found, key=lambda group: (group.paths[0], group.kind))
