"""What became of the files of a data folder, counted: none may get lost unseen."""

from __future__ import annotations

import collections
import hashlib
import json
from collections.abc import Iterable, Sequence

from components.ingestion.image_layout import TFRECORDS, Listing
from components.ingestion.image_splits import Assignment, ImageFacts
from core.artifacts.ingest_record import ClassCounts, IngestCounts, Reject
from core.settings.data import SPLITS


def count(
    listing: Listing, facts: Sequence[ImageFacts], rejects: Sequence[Reject], assignment: Assignment
) -> IngestCounts:
    """Counts what became of the files. Raises ValueError if one was neither read nor rejected, or both."""
    ended = len(rejects) + len(facts)
    listed = ended if listing.layout == TFRECORDS else len(listing.files)
    if ended != listed:
        raise ValueError(f"{listed} files were listed; {len(facts)} were read and {len(rejects)} rejected")
    outcomes = collections.Counter((image.label, assignment.splits[image.path]) for image in facts)
    outcomes.update((reject.label, "") for reject in rejects if reject.label)
    classes = {
        label: ClassCounts({split: outcomes[label, split] for split in SPLITS}, outcomes[label, ""])
        for label in sorted({label for label, _ in outcomes})
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
