"""The first look at a data set: the edges of the buckets its pictures' statistics fall into, measured on a sample."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator

from components.ingestion import image_records
from components.ingestion.image_folder import read_file
from components.ingestion.image_layout import TFRECORDS, Listing
from components.ingestion.image_reading import RejectedError, statistics_of
from components.ingestion.image_statistics import STATISTICS
from components.ingestion.slice_features import edges_between
from core import progress
from core.image_limits import DEFAULT_LIMITS, ImageLimits

SAMPLE = 1000
"""Images that are looked at, chosen by the hashes of their paths; a third is then known to about three points."""


def measure_edges(listing: Listing, limits: ImageLimits = DEFAULT_LIMITS) -> dict[str, list[float]]:
    """Statistic -> edges (`slice_features.Edges`); none where no image can be read, which the run will tell."""
    values: dict[str, list[float]] = {name: [] for name in STATISTICS}
    for number, data in enumerate(itertools.islice(_sample(listing, limits), SAMPLE)):
        try:
            found = statistics_of(data, limits)
        except RejectedError:
            continue
        for name, value in found.items():
            values[name].append(value)
        progress.report(number + 1, None, "images", "looked at")
    return {name: edges_between(measured) for name, measured in values.items()}


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
