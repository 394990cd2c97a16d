"""Which split each image goes to, so that no image is in two: the identical, the near-identical, a group.

Everything that belongs together is a connected component of images: of the same pixels, of the same group
(`data.group_by`), or near-duplicates. A component has one split, which the hash of one of its members decides: so an
image stays in its split as the data grow, unless something arrives that ties it to another.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from components.ingestion import near_duplicates
from core.artifacts.ingest_record import DuplicateGroup


class ImageFacts(NamedTuple):
    """What is kept of an image to find those it belongs with; some 500 bytes.

    Attributes:
        split: that the layout gives, or "".
        group: its value of `data.group_by`, or "".
        sha256: of the file.
        pixels: SHA-256 of the pixels.
        hash: and thumbnail: `near_duplicates.describe`.
    """

    path: str
    label: str
    split: str
    group: str
    sha256: str
    pixels: str
    hash: int | None = None
    thumbnail: bytes = b""


@dataclasses.dataclass(frozen=True)
class Assignment:
    """The split of every image, by path, and the duplicates that were found, in the order of their first paths."""

    splits: dict[str, str]
    duplicates: list[DuplicateGroup]


def assign(facts: Iterable[ImageFacts], weights: dict[str, int], distance: int | None) -> Assignment:
    """Decides the splits.

    Splits that the layout gives are kept as they are. Those it does not give are made from its training images, in
    proportion to the weights; what belongs together with an image of another given split stays in training.
    `distance` is in how many bits the perceptual hashes of near-duplicates may differ; None looks for none.
    """
    images = sorted(facts)
    identical = _equal(image.pixels for image in images)
    edges = [_chains(identical)]
    if distance is not None:
        edges.append(_near(images, identical, distance))
    alike = near_duplicates.components(len(images), np.concatenate(edges))
    groups = _equal(image.group for image in images)
    together = near_duplicates.components(len(images), np.concatenate([_chains(alike), _chains(groups)]))
    splits = _splits(images, together, weights)
    return Assignment(
        {image.path: split for image, split in zip(images, splits, strict=True)},
        _duplicates(images, splits, identical, alike, groups),
    )


def _equal(values: Iterable[str]) -> np.ndarray:
    """A number for each value, the same for equal ones, -1 for none: int64 [n]."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) if value else -1 for value in values], np.int64)


def _chains(numbers: np.ndarray) -> np.ndarray:
    """Edges that connect all places of the same number, but of -1: int64 [m, 2]."""
    order = np.argsort(numbers, kind="stable")
    same = (numbers[order][1:] == numbers[order][:-1]) & (numbers[order][1:] >= 0)
    return np.stack([order[:-1][same], order[1:][same]], axis=1)


def _near(images: Sequence[ImageFacts], identical: np.ndarray, distance: int) -> np.ndarray:
    """Edges between near-duplicates; of identical images only the first is looked at."""
    _, first = np.unique(identical, return_index=True)
    chosen = np.array([place for place in first if images[place].hash is not None], np.int64)
    hashes = np.array([images[place].hash for place in chosen], np.uint64)
    thumbnails = np.frombuffer(b"".join(images[place].thumbnail for place in chosen), np.uint8)
    shape = len(chosen), near_duplicates.THUMBNAIL**2
    return chosen[near_duplicates.pairs(hashes, thumbnails.reshape(shape), distance)]


def _splits(images: Sequence[ImageFacts], together: np.ndarray, weights: dict[str, int]) -> list[str]:
    given = {image.split for image in images} - {""}
    free = {split: weight for split, weight in weights.items() if split not in given or split == "train"}
    names, ends = list(free), list(itertools.accumulate(free.values()))
    keys: dict[int, str] = {}
    bound: set[int] = set()
    for image, component in zip(images, together.tolist(), strict=True):
        key = hashlib.sha256(image.group.encode()).hexdigest() if image.group else image.sha256
        keys[component] = min(key, keys.get(component, key))
        if image.split not in ("", "train"):
            bound.add(component)
    splits = []
    for image, component in zip(images, together.tolist(), strict=True):
        if image.split not in ("", "train") or (image.split and component in bound):
            splits.append(image.split)
        else:
            splits.append(names[bisect.bisect(ends, int(keys[component], 16) % ends[-1])])
    return splits


def _duplicates(
    images: Sequence[ImageFacts], splits: Sequence[str], identical: np.ndarray, alike: np.ndarray, groups: np.ndarray
) -> list[DuplicateGroup]:
    found = []
    kinds: dict[Literal["identical", "near", "group"], np.ndarray]
    kinds = {"identical": identical, "near": alike, "group": groups}
    for kind, numbers in kinds.items():
        order = np.argsort(numbers, kind="stable")
        order = order[numbers[order] >= 0]
        starts = np.flatnonzero(np.diff(numbers[order], prepend=-2))
        for places in np.split(order, starts[1:]) if len(order) else []:
            members = [images[place] for place in places]
            group = DuplicateGroup(
                kind, [m.path for m in members], [m.label for m in members], [splits[place] for place in places]
            )
            distinct = {"identical": len(members), "near": len(set(identical[places])), "group": len(set(group.splits))}
            if distinct[kind] > 1:
                found.append(group)
    return sorted(found, key=lambda group: (group.paths[0], group.kind))
