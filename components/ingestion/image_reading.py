"""One image file's bytes in, a picture TensorFlow is known to read right (or the reason it cannot be used) out.

Pure functions on bytes: no TFX, no Beam, no file system.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageStat

from components.ingestion import image_statistics, near_duplicates

MAX_FILE_BYTES = 64 * 2**20
"""Larger files are rejected unread: an image of `MAX_PIXELS` fits well into this as JPEG."""

MAX_PIXELS = 64_000_000
"""Width times height; also the exported model's limit. Checked in the header, before anything is decoded (bombs)."""

MAX_SIDE = 65_535
"""Pixels; JPEG's own limit. libpng, and so TensorFlow, refuses PNGs with sides above 1 000 000."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF")
"""What is read, by content and never by name. (Pillow opens MPO, several JPEGs in one file, as JPEG.)"""

_KEPT_FORMATS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "GIF": "gif", "BMP": "bmp"}
_LOSSY_FORMATS = ("JPEG", "MPO")

# libjpeg's fast DCT, which TensorFlow uses, differs from Pillow's slow one by about 1 grey level of 255 on average.
_LOSSY_TOLERANCE = 3.0

# What Pillow's plug-ins raise for malformed files: it has no common base (damaged files of every format show these).
_MALFORMED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    RuntimeError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the turn that makes the picture upright (CIPA DC-008, 4.6.4.A). 1 needs none."""


class RejectedError(Exception):
    """A file that cannot be used as an image.

    Attributes:
        stage: where it failed: `find`, `open`, `identify`, `limits` or `decode`.
        reason: why, in words for the owner of the file.
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class ReadImage:
    """An image that TensorFlow's `decode_image` reads as Pillow shows it, upright.

    Attributes:
        encoded: the file's own bytes, or a PNG of the same pixels where those would be read wrong or not at all.
        format: of `encoded`: `jpeg`, `png`, `gif` or `bmp`.
        file_format: of the file, e.g. `webp`.
        width: pixels, upright.
        height: pixels, upright.
        sha256: of the file's bytes, 64 hexadecimal digits.
        statistics: what the picture is like, as `image_statistics.measure` says.
        pixels: SHA-256 of size and RGB pixels, 64 hexadecimal digits: the same whatever format holds them.
        likeness: `near_duplicates.describe`.
    """

    encoded: bytes
    format: str
    file_format: str
    width: int
    height: int
    sha256: str
    statistics: dict[str, float]
    pixels: str
    likeness: tuple[int, bytes] | None


def read_image(data: bytes) -> ReadImage:
    """Checks, decodes and describes one image file; converts it if TensorFlow would not read it right.

    The file is decoded fully, so truncation is found. Its bytes are kept if it needs no turn and TensorFlow decodes
    them to the same picture (alpha is dropped, as `decode_image(channels=3)` does); all else becomes a PNG of the
    first frame. So whatever passes here can be decoded by Transform, the Trainer and the exported model.

    Args:
        data: the whole file.

    Raises:
        RejectedError: if it is not an image, of a format not in `FORMATS`, over the limits, truncated or corrupt.
    """
    image, picture, as_stored = _checked(data)
    kept_format = _KEPT_FORMATS.get(str(image.format))
    if kept_format and as_stored and _tensorflow_agrees(data, picture, lossy=image.format in _LOSSY_FORMATS):
        encoded, stored_format = data, kept_format
    else:
        encoded, stored_format = _encode_png(picture), "png"
    colours = picture.convert("RGB")
    return ReadImage(
        encoded=encoded,
        format=stored_format,
        file_format=str(image.format).lower(),
        width=picture.width,
        height=picture.height,
        sha256=hashlib.sha256(data).hexdigest(),
        statistics=image_statistics.measure(picture),
        pixels=hashlib.sha256(b"%d %d " % picture.size + colours.tobytes()).hexdigest(),
        likeness=near_duplicates.describe(picture),
    )


def statistics_of(data: bytes) -> dict[str, float]:
    """What `read_image` would say of the picture's statistics; raises RejectedError likewise, but for less work."""
    return image_statistics.measure(_checked(data)[1])


def _checked(data: bytes) -> tuple[Image.Image, Image.Image, bool]:
    """The file within the limits, and what `_decode` makes of it."""
    if not data:
        raise RejectedError("open", "the file is empty")
    if len(data) > MAX_FILE_BYTES:
        raise RejectedError("limits", f"more than {MAX_FILE_BYTES // 2**20} MB")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about metadata: what counts is whether the pixels can be read.
        image = _open(data)
        return image, *_decode(image)


def _open(data: bytes) -> Image.Image:
    """Reads the header only."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError:
        names = ", ".join(FORMATS)
        raise RejectedError("identify", f"not an image, damaged in its header, or none of {names}") from None
    except Image.DecompressionBombError:
        raise RejectedError("limits", f"more than {MAX_PIXELS // 1_000_000} million pixels") from None
    except _MALFORMED as error:
        raise RejectedError("identify", f"damaged in its header: {error}") from error
    size = f"{image.width} x {image.height}"
    if image.width * image.height > MAX_PIXELS:
        raise RejectedError("limits", f"{size} is more than {MAX_PIXELS // 1_000_000} million pixels")
    if max(image.size) > MAX_SIDE:
        raise RejectedError("limits", f"{size} has a side longer than {MAX_SIDE} pixels")
    return image


def _decode(image: Image.Image) -> tuple[Image.Image, bool]:
    """The first frame's pixels, upright, as `L` or `RGB`; and whether a decoder of the file's bytes sees just these."""
    try:
        image.load()
        # TensorFlow would decode, and hold, every frame of a GIF to return the first (giflib's DGifSlurp).
        one_frame = image.format != "GIF" or not getattr(image, "is_animated", False)
        turn = _UPRIGHT.get(_orientation(image))
        if image.mode in ("I", "F"):
            raise RejectedError("decode", "32-bit pixels have no defined black and white; save it with 8 or 16 bits")
        picture = in_eight_bits(image)
    except _MALFORMED as error:
        raise RejectedError("decode", f"truncated or corrupt: {error}") from error
    return (picture, one_frame) if turn is None else (picture.transpose(turn), False)


def in_eight_bits(image: Image.Image) -> Image.Image:
    """The image as 8-bit grey or RGB; of 16 bits the upper 8, where Pillow's own conversion clips."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 where there is none that can be read."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except _MALFORMED:
        return 1


def _tensorflow_agrees(data: bytes, picture: Image.Image, lossy: bool) -> bool:
    """Whether TensorFlow decodes `data` to `picture`: exactly, or for lossy formats but for the decoder's rounding.

    What the exported model would refuse to decode, such as a JPEG of a hundred scans, does not count.
    """
    import tensorflow as tf  # ten seconds; whoever only lists files or reads settings needs none of it

    try:
        if _inspection()(data)[1].numpy():
            return False
        decoded = tf.io.decode_image(data, channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError:
        return False
    if decoded.shape[:2] != (picture.height, picture.width):
        return False
    difference = ImageStat.Stat(ImageChops.difference(Image.fromarray(decoded), picture.convert("RGB")))
    if lossy:
        return max(difference.mean) <= _LOSSY_TOLERANCE
    return max(highest for _, highest in difference.extrema) == 0


@functools.cache
def _inspection() -> Callable[[bytes], Any]:
    """`tolerant_decoding.inspect`, traced once."""
    import tensorflow as tf

    from trainer import tolerant_decoding

    return tf.function(tolerant_decoding.inspect, input_signature=[tf.TensorSpec([], tf.string)])


def _encode_png(picture: Image.Image) -> bytes:
    picture.info = {}  # No colour profile or text: nothing downstream reads them.
    target = io.BytesIO()
    picture.save(target, "PNG", compress_level=1)  # A third of the time of the default, for 1 % more bytes.
    return target.getvalue()
