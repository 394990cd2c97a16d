"""How image files are read: alike at ingestion, in `predict` and in the exported model, which stores these limits."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from msgspec import Meta

FileMB = Annotated[float, Meta(gt=0, le=512)]  # four such files and their PNGs fit in memory; tf.Examples end at 2 GB
MAX_MEGAPIXELS = 178
Megapixels = Annotated[float, Meta(gt=0, le=MAX_MEGAPIXELS)]  # Pillow refuses more: twice its `MAX_IMAGE_PIXELS`
Transparent = Literal["white", "black", "drop"]
SensorBits = Annotated[int, Meta(ge=8, le=15)]
MAX_GIF_BYTES = 16 * 2**20  # finding the first frame takes some 20 bytes of memory per byte, and 0.3 CPU s per million
MAX_JPEG_SCANS = 64  # progressive JPEGs have some 10; each is a pass over all pixels, in as little as 200 bytes
MAX_PNG_TEXTS = 16  # compressed text chunks: libpng keeps each decompressed, up to 8 MB
_PNG_BYTES_A_PIXEL = 4  # color noise takes a little more than 3
_PNG_BYTES = 2**16  # whatever its size


@dataclasses.dataclass(frozen=True)
class ImageLimits:
    """What is refused by its size or header, before anything is decoded; and how pixels are converted.

    Attributes:
        max_file_mb: of an image file, in MB of 2^20 bytes.
        max_megapixels: width times height, in millions.
        transparent: the background for transparent pixels; `drop` uses the colors stored beneath them.
        stretch: if all values of a 16-bit image fit into this many bits, these are scaled to 8 bits instead of all 16.
    """

    max_file_mb: FileMB = 64
    max_megapixels: Megapixels = 64
    transparent: Transparent = "white"
    stretch: SensorBits | None = None

    @property
    def file_bytes(self) -> int:
        """The maximum size of a file, in bytes."""
        return int(self.max_file_mb * 2**20)

    @property
    def pixels(self) -> int:
        """The maximum number of pixels of an image."""
        return int(self.max_megapixels * 1_000_000)

    @property
    def encoded_bytes(self) -> int:
        """The maximum that the model takes, in bytes: ingestion may have converted a file to a larger PNG."""
        return max(self.file_bytes, _PNG_BYTES_A_PIXEL * self.pixels + _PNG_BYTES)


DEFAULT_LIMITS = ImageLimits()
