"""Thumbnails for the report, from the raw tf.Examples and from files, bounded in number and size."""

from __future__ import annotations

import base64
import collections
import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from components.ingestion.image_reading import upright
from core.examples import IMAGE, LABEL, PATH
from pipeline.report.facts import Picture

_SAMPLES = 240
"""Sample pictures on the page, at most; every class gets the same share of them."""

_SAMPLES_PER_CLASS = 6
_SAMPLED_CLASSES = 120
_SAMPLE_SIDE, _EVIDENCE_SIDE = 96, 144
_QUALITY = 78
_SCANNED_PER_CLASS = 40
_SCANNED = 20_000


def samples(split: Path, classes: list[str]) -> dict[str, list[Picture]]:
    """The first pictures of each class in a split; the records are in random order.

    Args:
        split: a folder of TFRecords of raw tf.Examples.
        classes: names; beyond 120 the rest gets none.
    """
    shown = classes[:_SAMPLED_CLASSES]
    most = max(1, min(_SAMPLES_PER_CLASS, _SAMPLES // max(len(shown), 1)))
    found: dict[str, list[Picture]] = {name: [] for name in shown}
    waiting = set(shown)
    for number, record in enumerate(_records(split)):
        if not waiting or number >= _SCANNED_PER_CLASS * len(shown) + 500:
            break
        name = _text(record[LABEL])
        if name in waiting:
            found[name].append(_thumbnail(record[IMAGE], _SAMPLE_SIDE, _text(record[PATH])))
            if len(found[name]) == most:
                waiting.remove(name)
    return {name: pictures for name, pictures in found.items() if pictures}


def by_path(split: Path, wanted: set[str]) -> dict[str, Picture]:
    """Pictures of the images with these paths, as far as they are among the first 20,000 of the split."""
    found: dict[str, Picture] = {}
    if wanted:
        for number, record in enumerate(_records(split)):
            if number >= _SCANNED or len(found) == len(wanted):
                break
            path = _text(record.get(PATH, b""))
            if path in wanted:
                found[path] = _thumbnail(record[IMAGE], _EVIDENCE_SIDE, path)
    return found


def from_file(path: Path, alt: str) -> Picture:
    """A JPEG file as it is."""
    return Picture(_uri(path.read_bytes()), alt)


def _thumbnail(encoded: bytes, side: int, alt: str) -> Picture:
    with Image.open(io.BytesIO(encoded)) as image:
        image.draft("RGB", (side * 2, side * 2))  # a JPEG is then decoded at a fraction of its size
        small = upright(image)
    small.thumbnail((side, side))
    target = io.BytesIO()
    small.save(target, "JPEG", quality=_QUALITY)
    return Picture(_uri(target.getvalue()), alt)


def _uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _records(split: Path) -> Iterator[dict[str, bytes]]:
    """The bytes features of each tf.Example."""
    from core import tfrecords  # brings TensorFlow, 9 s, unless the run has loaded it

    for record in tfrecords.read(f"{split}/*"):
        yield collections.defaultdict(bytes, tfrecords.values(record))


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
