"""How large an image may be: the same at ingestion, for `predict` and in the exported model, which says so itself."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import msgspec
from msgspec import Meta

LIMITS_FILE = "assets.extra/image_limits.json"  # in an exported model: its `ImageLimits`
HIGHEST_FILE_MB = 512  # four of them and their PNGs are held at once, and a tf.Example ends at 2 GB
HIGHEST_MEGAPIXELS = 178  # Pillow refuses more as a decompression bomb (twice its `MAX_IMAGE_PIXELS`)
MAX_GIF_BYTES = 16 * 2**20  # finding the first frame takes some 20 bytes of memory for each, and 0.3 CPU s a million
MAX_JPEG_SCANS = 64  # progressive JPEGs have some 10; each is a pass over all pixels, and need not have 200 bytes
MAX_PNG_TEXTS = 16  # compressed text chunks: libpng keeps each decompressed, up to 8 MB
_PNG_BYTES_A_PIXEL = 4  # color noise takes a little more than 3
_PNG_BYTES = 2**16  # whatever its size


@dataclasses.dataclass(frozen=True)
class ImageLimits:
    """What is refused unread or by its header, before anything is decoded.

    Attributes:
        max_file_mb: of an image file, in MB of 2^20 bytes.
        max_megapixels: width times height, in millions.
    """

    max_file_mb: Annotated[float, Meta(gt=0, le=HIGHEST_FILE_MB)] = 64
    max_megapixels: Annotated[float, Meta(gt=0, le=HIGHEST_MEGAPIXELS)] = 64

    @property
    def file_bytes(self) -> int:
        """The most bytes of a file."""
        return int(self.max_file_mb * 2**20)

    @property
    def pixels(self) -> int:
        """The most pixels of an image."""
        return int(self.max_megapixels * 1_000_000)

    @property
    def encoded_bytes(self) -> int:
        """The most bytes the model takes: ingestion may have made a PNG of the file that is larger than it."""
        return max(self.file_bytes, _PNG_BYTES_A_PIXEL * self.pixels + _PNG_BYTES)


DEFAULT_LIMITS = ImageLimits()


def write(limits: ImageLimits, model_dir: str) -> None:
    """Puts the limits beside a SavedModel; any path TensorFlow's file system writes."""
    import tensorflow as tf  # ten seconds, which settings, who hold the limits, need not wait for

    tf.io.gfile.makedirs(f"{model_dir}/{LIMITS_FILE.rpartition('/')[0]}")
    with tf.io.gfile.GFile(f"{model_dir}/{LIMITS_FILE}", "w") as file:
        file.write(msgspec.json.encode(limits).decode() + "\n")


def read(model_dir: str) -> ImageLimits:
    """The limits of a SavedModel; legacy models, which have no such file, have the defaults."""
    import tensorflow as tf

    if not tf.io.gfile.exists(f"{model_dir}/{LIMITS_FILE}"):
        return DEFAULT_LIMITS
    with tf.io.gfile.GFile(f"{model_dir}/{LIMITS_FILE}", "r") as file:
        return msgspec.json.decode(file.read(), type=ImageLimits)
