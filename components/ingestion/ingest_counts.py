"""What became of the files of a data folder, counted: none may get lost unseen."""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence

from components.ingestion.image_layout import TFRECORDS, Listing
from components.ingestion.image_splits import Assignment, ImageFacts
from core.artifacts.ingest_record import ClassCounts, IngestCounts, Reject
from core.settings.data import SPLITS


def count(
    listing: Listing, facts: Sequence[ImageFacts], rejects: Sequence[Reject], assignment: Assignment
) -> IngestCounts:
    """Counts the images that were read and the files that were not.

    Raises:
        ValueError: a listed file is neither read nor rejected, or both: an internal error.
    """
    ended = len(rejects) + len(facts)
    listed = ended if listing.layout == TFRECORDS else len(listing.files)
    if ended != listed:
        raise ValueError(f"{listed} files were listed; {len(facts)} were read and {len(rejects)} rejected")
    by_class: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for label, outcome in itertools.chain(
        ((image.label, assignment.splits[image.path]) for image in facts),
        ((reject.label, "") for reject in rejects if reject.label),
    ):
        by_class[label][outcome] += 1
    classes = {
        label: ClassCounts({split: counts[split] for split in SPLITS}, counts[""])
        for label, counts in sorted(by_class.items())
    }
    double = {path for group in assignment.duplicates if group.kind != "group" for path in group.paths[1:]}
    return IngestCounts(
        found=listing.ignored + listed,
        ignored=listing.ignored,
        rejected=len(rejects),
        read=len(facts),
        splits={split: sum(counts.splits[split] for counts in classes.values()) for split in SPLITS},
        duplicates=len(double),
        layout=listing.layout,
        given=list(listing.given),
        classes=classes,
    )


def content_hash(facts: Iterable[ImageFacts]) -> str:
    """SHA-256, as hexadecimal digits, of every image's path, content and class: the same for any copy of the data."""
    content = hashlib.sha256()
    for image in sorted((image.path, image.sha256, image.label) for image in facts):
        content.update(f"{json.dumps(image)}\n".encode())
    return content.hexdigest()
