"""Thumbnails for the report, from the raw tf.Examples and from files, bounded in number and size."""

from __future__ import annotations

import base64
import collections
import io
from collections.abc import Iterator

from PIL import Image

from components.ingestion.image_reading import upright
from core import examples
from core.image_limits import DEFAULT_LIMITS, ImageLimits

SAMPLED_CLASSES = 120  # of which the page shows images, at most

_SAMPLES = 240  # sample images on the page, at most; every class gets the same share of them
_SAMPLES_PER_CLASS = 6
_SAMPLE_SIDE, _MISTAKE_SIDE = 96, 144
_QUALITY = 78
_SCANNED = 20_000


def samples(split: str, classes: list[str], limits: ImageLimits = DEFAULT_LIMITS) -> dict[str, list[tuple[str, str]]]:
    """Path and data URI of the first images in a split, by class.

    `split` is a folder of TFRecords of raw tf.Examples in random order; `limits` says how images are converted.
    """
    most = max(1, min(_SAMPLES_PER_CLASS, _SAMPLES // max(len(classes), 1)))
    found: dict[str, list[tuple[str, str]]] = {name: [] for name in classes}
    incomplete = set(classes)
    for number, (image, path, label) in enumerate(_images(split)):
        if not incomplete or number >= _SCANNED:
            break
        if label in incomplete:
            found[label].append((path, thumbnail(image, limits)))
            if len(found[label]) == most:
                incomplete.remove(label)
    return {name: thumbnails for name, thumbnails in found.items() if thumbnails}


def by_path(split: str, wanted: set[str], limits: ImageLimits = DEFAULT_LIMITS) -> dict[str, str]:
    """Data URIs of the images with these paths, as far as they are among the first 20,000 of the split."""
    found: dict[str, str] = {}
    if wanted:
        for number, (image, path, _) in enumerate(_images(split)):
            if number >= _SCANNED or len(found) == len(wanted):
                break
            if path in wanted:
                found[path] = thumbnail(image, limits, _MISTAKE_SIDE)
    return found


def thumbnail(encoded: bytes, limits: ImageLimits, side: int = _SAMPLE_SIDE) -> str:
    """Data URI of an image that ingestion has read, at most `side` pixels wide and high."""
    with Image.open(io.BytesIO(encoded)) as image:
        image.draft("RGB", (side * 2, side * 2))  # a JPEG is then decoded at a fraction of its size
        small = upright(image, limits)
    small.thumbnail((side, side))
    target = io.BytesIO()
    small.save(target, "JPEG", quality=_QUALITY)
    return data_uri(target.getvalue())


def data_uri(jpeg: bytes) -> str:
    """A data URI, which an `img` element shows without a file."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _images(split: str) -> Iterator[tuple[bytes, str, str]]:
    """The encoded image, path and label of each tf.Example."""
    from core import tfrecords  # brings TensorFlow, 9 s, unless the run has loaded it

    for record in tfrecords.read(f"{split}/*"):
        values = collections.defaultdict(bytes, tfrecords.values(record))
        yield values[examples.IMAGE], tfrecords.text(values[examples.PATH]), tfrecords.text(values[examples.LABEL])
