"""Finds the stored images that look most similar to the network, by the angle between their features.

For flower photos and digits, the nearest training image has the test image's class as often as with centered or
standardized features, to within two standard errors.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from core import tfrecords
from core.artifacts.features import FEATURES, FeatureFormat
from core.examples import SHA256

_BATCH = 4096  # stored images held in memory at a time


class Neighbor(NamedTuple):
    """A stored image by its SHA-256; `similarity` is the cosine similarity of both images' features."""

    sha256: str
    similarity: float


def read_pooled(files: Sequence[str], stored: FeatureFormat) -> Iterator[tuple[str, np.ndarray]]:
    """The SHA-256 and the features, float32 [d], of each record; maps are averaged, and only the first view is used.

    `files` are patterns of TFRecords as FeatureExtractor writes them.
    """
    for record in tfrecords.read(*files):
        feature = tf.train.Example.FromString(record).features.feature
        found = stored.array(feature[FEATURES].bytes_list.value[0])
        yield tfrecords.text(feature[SHA256].bytes_list.value[0]), pooled(found[None])[0]


def pooled(features: np.ndarray) -> np.ndarray:
    """Features at any cut, [n, ..., d], averaged over the map: [n, d]."""
    return features.mean(axis=tuple(range(1, features.ndim - 1)))


def nearest(files: Sequence[str], stored: FeatureFormat, queries: np.ndarray, most: int) -> list[list[Neighbor]]:
    """For each query, pooled features float32 [n, d], up to `most` stored images, most similar first.

    An image stored several times, as copies are, counts once.
    """
    wanted = _directions(queries)
    found: list[dict[str, float]] = [{} for _ in wanted]
    images = read_pooled(files, stored)
    while batch := list(itertools.islice(images, _BATCH)):
        similarities = wanted @ _directions(np.stack([features for _, features in batch])).T
        for best, row in zip(found, similarities, strict=True):
            for place in np.argsort(-row, kind="stable")[: 2 * most].tolist():
                best.setdefault(batch[place][0], float(row[place]))
    return [
        [Neighbor(*pair) for pair in sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:most]]
        for best in found
    ]


def _directions(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)
