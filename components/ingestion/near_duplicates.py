"""Which images show the same: a perceptual hash finds the candidates, a thumbnail confirms them.

The hash is pHash (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions"): the signs of the
lowest 8 x 8 DCT coefficients of the gray image at 32 x 32, relative to their median. Images that differ in a few bits
are candidates; they count as near-duplicates if their 16 x 16 thumbnails also correlate, which is blind to brightness
and contrast, but distinguishes two drawings of the same digit, which the hash alone does not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

THUMBNAIL = 16  # side in pixels

_SIDE, _LOW, _BITS = 32, 8, 64
_CORRELATED = 0.994
_FLAT = 2.0  # gray levels: an image of one color has no structure to compare
_NEIGHBORS = 100
_LONGEST, _LONGEST_SHARE = 10, 0.05  # of the images: a longer chain is divided
_CHUNK = 1 << 14


def describe(image: Image.Image) -> tuple[int, bytes] | None:
    """The hash, 64 bits, and the thumbnail, `THUMBNAIL`² gray levels; None for an image of (almost) one color."""
    gray = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    pixels = np.asarray(gray, np.float32)
    if pixels.std() < _FLAT:
        return None
    low = dctn(pixels)[:_LOW, :_LOW]
    bits = np.packbits(low > np.median(low))
    step = _SIDE // THUMBNAIL
    thumbnail = pixels.reshape(THUMBNAIL, step, THUMBNAIL, step).mean((1, 3))
    return int.from_bytes(bits.tobytes(), "big"), np.rint(thumbnail).astype(np.uint8).tobytes()


def groups(hashes: np.ndarray, thumbnails: np.ndarray, distance: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Groups that must share a split: images tied together by chains of near-duplicates.

    A chain is a group if it has at most a twentieth of all images, or ten. A longer one, such as that of a camera that
    does not move, is divided: the first image in no group takes all its own near-duplicates that are in none yet. So no
    two in a group differ in more than twice the distance, however many images there are.

    Args:
        hashes: uint64 [n]; like `thumbnails`, in the order in which images may found a group.
        thumbnails: uint8 [n, `THUMBNAIL`²].
        distance: the bits in which the hashes of near-duplicates may differ.
        images: how many there are, including those without a hash.

    Returns:
        Two int64 [n]: the number of each image's group, and of its chain if that was divided; -1 for none.
    """
    chains = components(len(hashes), pairs(hashes, thumbnails, distance))
    long = np.flatnonzero(np.bincount(chains) > max(_LONGEST, _LONGEST_SHARE * images))
    divided = np.where(np.isin(chains, long), chains, -1)
    found = chains.copy()
    for chain in long:
        rest = np.flatnonzero(chains == chain)
        while len(rest):
            near = _bit_count(hashes[rest] ^ hashes[rest[0]]) <= distance
            near[near] = _correlation(thumbnails[rest[near]], thumbnails[rest[:1]]) >= _CORRELATED
            near[0] = True
            found[rest[near]] = len(hashes) + rest[0]
            rest = rest[~near]
        if len(set(found[chains == chain])) == 1:  # all are near-duplicates of the first
            divided[chains == chain] = -1
    return found, divided


def pairs(hashes: np.ndarray, thumbnails: np.ndarray, distance: int) -> np.ndarray:
    """Pairs of near-duplicates: not all, but enough to tie together whatever any chain of them ties.

    Hashes that differ in at most d bits agree on at least two of d + 2 bands, so only images that share two bands are
    compared (multi-index hashing, Norouzi et al. 2012): with d = 6 and random hashes, one pair in 2340. If more than
    `_NEIGHBORS` share them, like the frames of a film, each is compared with that many next to it in the order of the
    hashes, so the work stays proportional to the number of images.

    Args:
        hashes: uint64 [n].
        thumbnails: uint8 [n, `THUMBNAIL`²].
        distance: the bits in which the hashes may differ.

    Returns:
        int64 [m, 2], indices.
    """
    by_hash = np.argsort(hashes, kind="stable")
    hashes, thumbnails = hashes[by_hash], thumbnails[by_hash]
    bands = np.linspace(0, _BITS, distance + 3).astype(int)
    masks = [((1 << int(end)) - 1) ^ ((1 << int(start)) - 1) for start, end in itertools.pairwise(bands)]
    tied = np.arange(len(hashes))
    found = [np.empty((0, 2), np.int64)]
    for first, second in itertools.combinations(masks, 2):
        keys = hashes & np.uint64(first | second)
        order = np.argsort(keys, kind="stable")
        fresh = [np.empty((0, 2), np.int64)]
        for left, right in _within_runs(keys[order]):
            chosen = tied[order[left]] != tied[order[right]]
            i, j = order[left[chosen]], order[right[chosen]]
            near = _bit_count(hashes[i] ^ hashes[j]) <= distance
            i, j = i[near], j[near]
            alike = _correlation(thumbnails[i], thumbnails[j]) >= _CORRELATED
            fresh.append(np.stack([i[alike], j[alike]], axis=1))
        edges = np.concatenate(fresh)
        tied = components(int(tied.max(initial=-1)) + 1, tied[edges])[tied]
        found.append(edges)
    return by_hash[np.concatenate(found)]


def components(number: int, edges: np.ndarray) -> np.ndarray:
    """A number for each of `number` places, the same for places that edges, int64 [m, 2], connect: int64 [number]."""
    graph = coo_matrix((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), (number, number))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _within_runs(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of places with the same key, among sorted keys; `_CHUNK` pairs at a time."""
    ends = np.searchsorted(keys, keys, side="right")
    partners = np.minimum(ends - np.arange(len(keys)) - 1, _NEIGHBORS)  # those after each place, in its run
    done = np.concatenate([[0], np.cumsum(partners)])
    for start in range(0, int(done[-1]), _CHUNK):
        number = np.arange(start, min(start + _CHUNK, int(done[-1])))
        left = np.searchsorted(done, number, side="right") - 1
        yield left, left + 1 + number - done[left]


def _bit_count(values: np.ndarray) -> np.ndarray:
    return np.unpackbits(values.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1, dtype=np.int64)


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The correlation of each row with the same row of the other: float32 [m]."""
    normalized = []
    for rows in (first, second):
        centered = rows.astype(np.float32)
        centered -= centered.mean(axis=1, keepdims=True)
        normalized.append(centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1.0))
    return (normalized[0] * normalized[1]).sum(axis=1)
