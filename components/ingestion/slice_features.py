"""What an image is like, in a few words: slices that need no metadata.

Statistics fall into three buckets with equally many images each, whose boundaries are measured when a data set is first
seen and then kept in its schema: `brightness=dark (<0.31)` means the same in every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from components.ingestion.image_reading import ReadImage
from components.ingestion.image_statistics import STATISTICS

_SQUARE_WITHIN = 1.1  # the longer side over the shorter
_DIGITS = 3  # of the boundaries

NAMES = (*STATISTICS, "aspect", "format")
"""The features that every image has; columns of metadata.csv must have other names."""

BucketBoundaries = Mapping[str, Sequence[float]]
"""Statistic -> boundaries of its buckets, ascending; at most two, none if all images are in one bucket."""

_WORDS = {
    "resolution": ("small", "medium", "large"),
    "brightness": ("dark", "medium", "bright"),
    "contrast": ("low", "medium", "high"),
    "sharpness": ("soft", "medium", "sharp"),
    "colorfulness": ("muted", "medium", "vivid"),
}


def between_thirds(values: Sequence[float]) -> list[float]:
    """Boundaries between thirds of the values, to three digits; fewer if many values are equal."""
    if len(values) == 0:
        return []
    thirds = np.quantile(values, [1 / 3, 2 / 3], method="higher")
    rounded = sorted({float(f"{end:.{_DIGITS}g}") for end in thirds})
    return [end for end in rounded if min(values) < end <= max(values)]


def describe(image: ReadImage, boundaries: BucketBoundaries) -> dict[str, str]:
    """The image's value for each of `NAMES`, from what was read anyway: nothing is decoded again."""
    buckets = {name: bucket(name, image.statistics[name], boundaries.get(name, ())) for name in STATISTICS}
    return {**buckets, "aspect": aspect(image.width, image.height), "format": image.file_format}


def aspect(width: int, height: int) -> str:
    """`square` if the sides are within ten percent of each other, else `portrait` or `landscape`."""
    if max(width, height) <= _SQUARE_WITHIN * min(width, height):
        return "square"
    return "portrait" if height > width else "landscape"


def bucket(name: str, value: float, boundaries: Sequence[float]) -> str:
    """The bucket of a value: `dark (<0.31)`, `medium (0.31 to 0.52)`, `bright (>=0.52)`; `all` if there is only one."""
    low, middle, high = _WORDS[name]
    if not boundaries:
        return "all"
    if value < boundaries[0]:
        return f"{low} (<{boundaries[0]:g})"
    if value >= boundaries[-1]:
        return f"{high} (>={boundaries[-1]:g})"
    return f"{middle} ({boundaries[0]:g} to {boundaries[-1]:g})"
