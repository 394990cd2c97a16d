"""One image file's bytes in, an image that TensorFlow is known to read right (or the reason it cannot be used) out."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageStat

from components.ingestion import decode_cost, image_statistics, near_duplicates
from core.image_limits import DEFAULT_LIMITS, ImageLimits

MAX_SIDE = 65_535
"""Pixels; JPEG's own limit. libpng, and so TensorFlow, refuses PNGs with sides above 1 000 000."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF")
"""What is read, by content and never by name. (Pillow opens MPO, several JPEGs in one file, as JPEG.)"""

_KEPT_FORMATS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "GIF": "gif", "BMP": "bmp"}
_LOSSY_FORMATS = ("JPEG", "MPO")

# libjpeg's fast DCT, which TensorFlow uses, differs from Pillow's slow one by about 1 gray level of 255 on average.
_LOSSY_TOLERANCE = 3.0

# What Pillow's plug-ins raise for malformed files: it has no common base (damaged files of every format show these).
_MALFORMED = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, RuntimeError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip

_BITS_PER_SAMPLE, _PHOTOMETRIC_INTERPRETATION, _SAMPLE_FORMAT = 258, 262, 339  # TIFF's tags
_WHITE_IS_ZERO, _SIGNED = 0, 2

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the turn that makes the image upright (CIPA DC-008, 4.6.4.A)."""


HEAD = 64
"""Bytes of a file that `looks_like_picture` needs."""

_OTHER_PICTURES = ("JPEG2000", "PSD")  # not read, but not to be passed over either


class RejectedError(Exception):
    """A file that cannot be used as an image; stage and reason are those of `core.artifacts.ingest_record.Reject`."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class ReadImage:
    """An image that the exported model's graph reads as Pillow shows it, upright.

    Attributes:
        encoded: the file's own bytes, or a PNG of the same pixels where those would be read wrong or not at all.
        format: of `encoded`: `jpeg`, `png`, `gif` or `bmp`.
        file_format: of the file, e.g. `webp`.
        sha256: of the file's bytes, hexadecimal.
        statistics: `image_statistics.measure`.
        pixels: SHA-256 of size and RGB pixels: the same whatever format holds them.
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


class _Decoded(NamedTuple):
    """A file within the limits, and its first frame: upright, as `L` or `RGB`."""

    data: bytes
    format: str  # as Pillow calls it
    image: Image.Image
    orientation: int  # what EXIF says of the pixels as they are stored
    one_frame: bool


def read_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> ReadImage:
    """Checks, decodes and describes one image file; converts it if TensorFlow would not read it right.

    The file is decoded fully, so truncation is found. Its bytes are kept if our graph, which turns JPEGs upright by
    their EXIF, makes the same image of them (alpha is dropped, as `decode_image(channels=3)` does); all else becomes
    a PNG of the first frame.

    Raises:
        RejectedError: it is not an image, of a format not in `FORMATS`, over the limits, truncated or corrupt.
    """
    decoded = _decode(data, limits)
    encoded, stored_format = _as_read_right(decoded, limits)
    image = decoded.image
    return ReadImage(
        encoded=encoded,
        format=stored_format,
        file_format=decoded.format.lower(),
        width=image.width,
        height=image.height,
        sha256=hashlib.sha256(data).hexdigest(),
        statistics=image_statistics.measure(image),
        pixels=hashlib.sha256(b"%d %d " % image.size + image.convert("RGB").tobytes()).hexdigest(),
        likeness=near_duplicates.describe(image),
    )


def looks_like_picture(head: bytes) -> bool:
    """Whether the first bytes are those of a picture, which may be damaged, or of a format that is not read."""
    Image.init()
    accepts = [Image.OPEN[name][1] for name in (*FORMATS, *_OTHER_PICTURES) if name in Image.OPEN]
    return any(accept is not None and accept(head.ljust(16, b"\0")) for accept in accepts)


def for_model(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """`read_image(data, limits).encoded`, for less work: what to send to the exported model for a file."""
    return _as_read_right(_decode(data, limits), limits)[0]


def statistics_of(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> dict[str, float]:
    """`read_image(data, limits).statistics`, for less work."""
    return image_statistics.measure(_decode(data, limits).image)


def upright(image: Image.Image) -> Image.Image:
    """The image in 8 bits, turned as its EXIF says: as people see it, and the exported model."""
    turn, shown = _UPRIGHT.get(_orientation(image)), in_eight_bits(image)
    return shown if turn is None else shown.transpose(turn)


def in_eight_bits(image: Image.Image) -> Image.Image:
    """The image as 8-bit gray or RGB; of more bits the upper 8, where Pillow's own conversion clips.

    A TIFF's BitsPerSample (12 or 16) and PhotometricInterpretation (0: the lowest value is white) are heeded, as Pillow
    heeds them in 8 bits only (TIFF 6.0, section 8).
    """
    if not image.mode.startswith("I;16"):
        return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    tags = getattr(image, "tag_v2", {})
    pixels = np.asarray(image) >> tags.get(_BITS_PER_SAMPLE, (16,))[0] - 8
    if tags.get(_PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:
        pixels = 255 - pixels
    return Image.fromarray(pixels.astype(np.uint8))


def _decode(data: bytes, limits: ImageLimits) -> _Decoded:
    if not data:
        raise RejectedError("open", "the file is empty")
    if len(data) > limits.file_bytes:
        raise RejectedError("limits", f"more than {limits.max_file_mb:g} MB")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about metadata: what counts is whether the pixels can be read.
        image = _open(data, limits)
        try:
            image.load()
            if image.mode in ("I", "F"):
                signed = getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, (0,))[0] == _SIGNED
                raise RejectedError(
                    "decode",
                    f"{'signed' if signed else '32-bit'} pixels have no defined black and white; save it with 8 or 16 "
                    "bits, unsigned",
                )
            # TensorFlow would decode, and hold, every frame of a GIF to return the first (giflib's DGifSlurp).
            one_frame = image.format != "GIF" or not getattr(image, "is_animated", False)
            return _Decoded(data, str(image.format), upright(image), _orientation(image), one_frame)
        except _MALFORMED as error:
            raise RejectedError("decode", f"truncated or corrupt: {str(error) or type(error).__name__}") from error


def _open(data: bytes, limits: ImageLimits) -> Image.Image:
    """Reads the header only."""
    most = f"more than {limits.max_megapixels:g} million pixels"
    try:
        excess = decode_cost.excess(data, limits)
        if excess:
            raise RejectedError("limits", excess)
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError:
        names = ", ".join(FORMATS)
        raise RejectedError("identify", f"not an image, damaged in its header, or none of {names}") from None
    except Image.DecompressionBombError:
        raise RejectedError("limits", most) from None
    except _MALFORMED as error:
        raise RejectedError("identify", f"damaged in its header: {str(error) or type(error).__name__}") from error
    size = f"{image.width} x {image.height}"
    if image.width * image.height > limits.pixels:
        raise RejectedError("limits", f"{size} is {most}")
    if max(image.size) > MAX_SIDE:
        raise RejectedError("limits", f"{size} has a side longer than {MAX_SIDE} pixels")
    return image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, which is upright, where there is none that can be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except _MALFORMED:
        return 1
    return int(found) if found in _UPRIGHT else 1


def _as_read_right(decoded: _Decoded, limits: ImageLimits) -> tuple[bytes, str]:
    """The file's bytes and format, or a PNG's where TensorFlow would not read those right."""
    if decoded.format in _KEPT_FORMATS and decoded.one_frame and _tensorflow_agrees(decoded, limits):
        return decoded.data, _KEPT_FORMATS[decoded.format]
    decoded.image.info = {}  # No color profile or text: nothing downstream reads them.
    target = io.BytesIO()
    decoded.image.save(target, "PNG", compress_level=1)  # A third of the time of the default, for 1 % more bytes.
    return target.getvalue(), "png"


def _tensorflow_agrees(decoded: _Decoded, limits: ImageLimits) -> bool:
    """Whether TensorFlow sees the same image: exactly, or for lossy formats but for the decoder's rounding.

    What the exported model would refuse to decode, such as a JPEG of a hundred scans, does not count. Nor does one it
    turns otherwise, such as a JPEG with its EXIF behind much else: of a plain image the pixels might not tell.
    """
    import tensorflow as tf  # ten seconds; whoever only lists files or reads settings needs none of it

    try:
        problem, orientation, pixels = (value.numpy() for value in _graph(limits)(decoded.data))
    except tf.errors.InvalidArgumentError:
        return False
    image = decoded.image
    if problem or orientation != decoded.orientation or pixels.shape[:2] != (image.height, image.width):
        return False
    difference = ImageStat.Stat(ImageChops.difference(Image.fromarray(pixels), image.convert("RGB")))
    if decoded.format in _LOSSY_FORMATS:
        return max(difference.mean) <= _LOSSY_TOLERANCE
    return max(highest for _, highest in difference.extrema) == 0


@functools.cache
def _graph(limits: ImageLimits) -> Callable[[bytes], Any]:
    """An image file, string scalar, to what the exported model would say against it, its orientation and its pixels."""
    import tensorflow as tf

    from trainer.images import decoding, tolerant_decoding

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def read(file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        problem = tolerant_decoding.inspect(file, limits)[1]
        nothing = tf.zeros([0, 0, 3], tf.uint8)
        pixels = tf.cond(tf.equal(problem, ""), lambda: decoding.decode_upright(file), lambda: nothing)
        return problem, decoding.orientation(file), pixels

    return read
