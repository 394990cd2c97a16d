"""The boundaries of the buckets of images' statistics, measured on a sample when a data set is first seen."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from components.ingestion import image_records
from components.ingestion.image_folder import read_file
from components.ingestion.image_layout import TFRECORDS, Listing
from components.ingestion.image_reading import RejectedError, statistics_of
from components.ingestion.image_statistics import STATISTICS
from core import progress
from core.image_limits import DEFAULT_LIMITS, ImageLimits

SAMPLE = 1000
"""Images that are looked at, chosen by the hashes of their paths; a third is then known to about three points."""

_DIGITS = 3


def measure(listing: Listing, limits: ImageLimits = DEFAULT_LIMITS) -> dict[str, list[float]]:
    """The boundaries for each statistic, as `slice_features.BucketBoundaries`; none where no image can be read."""
    values: dict[str, list[float]] = {name: [] for name in STATISTICS}
    for number, data in enumerate(itertools.islice(_sample(listing, limits), SAMPLE)):
        try:
            found = statistics_of(data, limits)
        except RejectedError:
            continue
        for name, value in found.items():
            values[name].append(value)
        progress.report(number + 1, None, "images", "sampled")
    return {name: between_thirds(measured) for name, measured in values.items()}


def between_thirds(values: Sequence[float]) -> list[float]:
    """Where thirds of the values end, to three digits; fewer boundaries where many values are equal."""
    if len(values) == 0:
        return []
    thirds = np.quantile(values, [1 / 3, 2 / 3], method="higher")
    rounded = sorted({float(f"{end:.{_DIGITS}g}") for end in thirds})
    return [end for end in rounded if min(values) < end <= max(values)]


def _sample(listing: Listing, limits: ImageLimits) -> Iterator[bytes]:
    files = [file for file in listing.files if not file.problem]
    for file in sorted(files, key=lambda file: hashlib.sha256(file.path.encode()).digest()):
        if listing.layout == TFRECORDS:
            records = image_records.read_records(listing.folder, file.path, listing.names)
            yield from (record.data for record in records if not record.problem)
            continue
        try:
            yield read_file(listing.folder, file.path, limits)
        except RejectedError:
            continue
