"""Turns an image file's bytes into an image that TensorFlow reads correctly, or a reason why it cannot be used."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pi_heif
from pi_heif.as_plugin import HeifImageFile
from PIL import ExifTags, Image, ImageFile

from components.ingestion import image_statistics, near_duplicates
from components.ingestion.formats import decode_cost, file_kinds, hevc_size, jpeg_end, netpbm, tiff_directory
from core.artifacts.ingest_record import FEW_BITS, INVISIBLE, MORE_BITS, NO_END
from core.image_limits import DEFAULT_LIMITS, ImageLimits, Transparent

if TYPE_CHECKING:
    import tensorflow as tf

MAX_SIDE = 65_535
"""Pixels; JPEG's own limit. libpng, and so TensorFlow, refuses PNGs with sides above 1 000 000."""

_PILLOWS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF")
FORMATS = (*_PILLOWS, "HEIF (HEIC)", "PBM", "PGM", "PPM")
"""What is read, by content and never by name. (Pillow opens MPO, several JPEGs in one file, as JPEG.)"""

_HEIF, _NETPBM = "HEIF", "PPM"  # as Pillow calls them
_KEPT_FORMATS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "GIF": "gif", "BMP": "bmp"}
_LOSSY_FORMATS = ("JPEG", "MPO")

# Of CMYK, each makes RGB by a formula of its own.
_LOSSY_TOLERANCE = 3.0

# What Pillow's plug-ins raise for malformed files: it has no common base (damaged files of every format show these).
_MALFORMED = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, RuntimeError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip

_BITS_PER_SAMPLE, _PHOTOMETRIC_INTERPRETATION, _SAMPLES_PER_PIXEL, _SAMPLE_FORMAT = 258, 262, 277, 339  # TIFF's tags
_WHITE_IS_ZERO, _SIGNED = 0, 2
_MOST_16 = 65_535
_FEW = 14  # bits of 16: images that use no more are at most a quarter as bright as they could be
_PNG_DEPTH = 24  # where in a PNG the bits of a sample are
_ROWS = 512  # laid on a background at a time, to save memory

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


# About metadata; what counts is whether the pixels can be read. (`warnings.catch_warnings` is not for threads.)
warnings.filterwarnings("ignore", module=r"PIL\.")

# What is not read costs nothing, and there are threads enough. The plug-in is not registered: Pillow stays as it is.
pi_heif.options.DECODE_THREADS = 1
pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False

_tracing = threading.Lock()  # TensorFlow crashes where two threads trace such a graph at the same time

HEAD = 4096
"""Bytes of a file that `looks_like_picture` needs."""

_OTHER_PICTURES = ("a raw photo", "a JPEG", "a Photoshop", "a DICOM", "a Git LFS pointer")
"""What `file_kinds` calls files that are not read, but not to be passed over either."""


class RejectedError(Exception):
    """A file cannot be used as an image; stage and reason are those of `core.artifacts.ingest_record.Reject`."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason


Room = Callable[[int], AbstractContextManager[Any]]
"""Is entered with an image's number of pixels once they are known, and left when they are not in memory anymore."""


@dataclasses.dataclass(frozen=True)
class ReadImage:
    """An image that the exported model's graph reads as Pillow shows it, upright.

    Attributes:
        encoded: the file's own bytes, or a PNG of the same pixels if those would be read incorrectly or not at all.
        format: of `encoded`: `jpeg`, `png`, `gif` or `bmp`.
        file_format: of the file, e.g. `webp`.
        sha256: of the file's bytes, hexadecimal.
        statistics: `image_statistics.measure`.
        pixels: SHA-256 of size and RGB pixels: the same whatever format holds them.
        likeness: `near_duplicates.describe`.
        oddities: what is odd about it although it is readable: `core.artifacts.ingest_record.IngestCounts.oddities`.
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
    oddities: dict[str, int]


class _Opened(NamedTuple):
    """A file whose header was read.

    `load` decodes its first frame, and says how many of 16 bits that uses, 0 where it has not 16. It raises
    RejectedError or what is in `_MALFORMED`.
    """

    data: bytes
    format: str
    size: tuple[int, int]
    load: Callable[[], tuple[Image.Image, int]]
    plain_jpeg: Image.Image | None = None  # gray or color, of which every libjpeg makes the same; not decoded yet


class _Decoded(NamedTuple):
    """A file within the limits, and its first frame: upright, uint8 [h, w, 3]."""

    data: bytes
    format: str  # as Pillow calls it
    pixels: np.ndarray
    kept: bool  # whether TensorFlow reads its bytes right
    gray: bool
    oddities: dict[str, int]


def read_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS, room: Room = contextlib.nullcontext) -> ReadImage:
    """Checks, decodes and describes one image file; converts it if TensorFlow would not read it correctly.

    The file is decoded fully, so truncation is found. Its bytes are kept if our graph, which turns JPEGs upright by
    their EXIF and lays transparent PNGs on a background, makes the same image of them; everything else becomes a PNG of
    the first frame. A JPEG that only lacks its end marker gets one.

    Args:
        data: the file.
        limits: what to refuse.
        room: see `Room`.

    Raises:
        RejectedError: it is not an image, has a format not in `FORMATS`, exceeds the limits, or is truncated or
            corrupt.
    """
    opened = _open(data, limits)
    with room(opened.size[0] * opened.size[1]):
        decoded = _decode(opened, limits)
        encoded, stored_format = _as_read_right(decoded)
        height, width, _ = decoded.pixels.shape
        pixels = hashlib.sha256(b"%d %d " % (width, height))
        pixels.update(decoded.pixels.data)
        reduced = image_statistics.reduced(decoded.pixels)
    return ReadImage(
        encoded=encoded,
        format=stored_format,
        file_format=decoded.format.lower(),
        width=width,
        height=height,
        sha256=hashlib.sha256(data).hexdigest(),
        statistics=image_statistics.measure(reduced),
        pixels=pixels.hexdigest(),
        likeness=near_duplicates.describe(reduced.image),
        oddities=decoded.oddities,
    )


def looks_like_picture(head: bytes) -> bool:
    """Whether the first bytes are an image's, even one that is damaged or of a format that is not read."""
    Image.init()
    accepts = [Image.OPEN[name][1] for name in FORMATS if name in Image.OPEN]
    known = hevc_size.is_heif(head) or any(accept is not None and accept(head.ljust(16, b"\0")) for accept in accepts)
    return known or file_kinds.kind_of(head).startswith(_OTHER_PICTURES)


def for_model(data: bytes, limits: ImageLimits = DEFAULT_LIMITS, room: Room = contextlib.nullcontext) -> bytes:
    """`read_image(data, limits, room).encoded` with less work: what to send to the exported model for a file."""
    opened = _open(data, limits)
    with room(opened.size[0] * opened.size[1]):
        return _as_read_right(_decode(opened, limits))[0]


def statistics_of(
    data: bytes, limits: ImageLimits = DEFAULT_LIMITS, room: Room = contextlib.nullcontext
) -> dict[str, float]:
    """`read_image(data, limits, room).statistics`, up to rounding, with less work: large JPEGs are decoded smaller."""
    opened = _open(data, limits)
    width, height = opened.size
    with room(width * height):
        small = _at_a_fraction(opened)
        reduced = image_statistics.reduced(_decode(opened, limits).pixels if small is None else small)
    return image_statistics.measure(reduced._replace(pixels=width * height))


def _at_a_fraction(opened: _Opened) -> np.ndarray | None:
    """A plain JPEG, uint8 [h, w, 3], at the smallest fraction of its size that statistics need; otherwise None.

    libjpeg computes that fraction from the coefficients, about as the means of the full image's squares. Measured on 60
    photos of 12 megapixels: brightness and contrast change by at most 0.5 %, colorfulness by 2 %, sharpness by 3 %, and
    the boundaries between thirds by less than 1 %, in 29 % of the time.
    """
    if opened.plain_jpeg is None:
        return None
    image = opened.plain_jpeg
    image.draft(image.mode, (image_statistics.ENOUGH, image_statistics.ENOUGH))
    try:
        return np.asarray(image.convert("RGB"))
    except _MALFORMED:  # which `_decode` explains better
        return None


def upright(image: Image.Image, limits: ImageLimits = DEFAULT_LIMITS) -> Image.Image:
    """The image in 8 bits, on its background, turned as its EXIF says: as people and the exported model see it."""
    turn, shown = _UPRIGHT.get(_orientation(image)), on_background(in_eight_bits(image, limits), limits.transparent)
    return shown if turn is None else shown.transpose(turn)


def in_eight_bits(image: Image.Image, limits: ImageLimits = DEFAULT_LIMITS) -> Image.Image:
    """The image in 8 bits per sample: the upper 8 of more bits, where Pillow's own conversion clips.

    Respects a TIFF's BitsPerSample (12 or 16) and PhotometricInterpretation (0: the lowest value is white), which
    Pillow respects in 8 bits only (TIFF 6.0, section 8).
    """
    if not image.mode.startswith("I;16"):
        return image
    tags = getattr(image, "tag_v2", {})
    most = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
    pixels = _scaled(np.asarray(image), most, limits.stretch)
    if tags.get(_PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:
        pixels = 255 - pixels
    return Image.fromarray(pixels)


def on_background(image: Image.Image, transparent: Transparent) -> Image.Image:
    """The image without alpha, as 8-bit gray or RGB: as `trainer.images.decoding.on_background` computes it."""
    gray = image.mode in ("1", "L", "LA", "La")
    if transparent == "drop" or not _has_alpha(image):
        return image.convert("L" if gray else "RGB")
    layers = np.asarray(image.convert("RGBA"))
    background = 255 if transparent == "white" else 0
    laid = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _ROWS):
        wide = layers[top : top + _ROWS].astype(np.uint16)
        colors, alpha = wide[..., :3], wide[..., 3:]
        laid[top : top + _ROWS] = (colors * alpha + background * (255 - alpha) + 127) // 255
    return Image.fromarray(laid[..., 0] if gray else laid)


def _has_alpha(image: Image.Image) -> bool:
    return image.mode[-1] in "Aa" or "transparency" in image.info


def _scaled(values: np.ndarray, most: int, stretch: int | None) -> np.ndarray:
    """Maps values up to `most` to uint8: the upper 8 bits if all bits are used, otherwise in proportion."""
    if most == _MOST_16 and stretch is not None and _bits(values) <= stretch:
        most = 2**stretch - 1
    if most >= 255 and most & (most + 1) == 0:
        return (values >> most.bit_length() - 8).astype(np.uint8)
    return ((values.astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8)


def _bits(values: np.ndarray) -> int:
    """Of the largest value."""
    return int(values.max(initial=0)).bit_length()


def _decode(opened: _Opened, limits: ImageLimits) -> _Decoded:
    oddities = {}
    if opened.format in _LOSSY_FORMATS and (whole := jpeg_end.with_end(opened.data)):
        opened, oddities = _open(whole, limits), {NO_END: 1}
    if by_tensorflow := _read_by_tensorflow(opened, limits, oddities):
        return by_tensorflow
    try:
        return _read(opened, limits, oddities)
    except _MALFORMED as error:
        named = "a HEIC, " if opened.format == _HEIF else ""
        reason = f"{named}truncated or corrupt: {_words(error)}"
        raise RejectedError("decode", reason) from error


def _read_by_tensorflow(opened: _Opened, limits: ImageLimits, oddities: dict[str, int]) -> _Decoded | None:
    """A plain JPEG, as Pillow would decode it, from the decoder that must be able to read it later: saves a decoding.

    None for anything else, or if the exported model would refuse it, or turn it differently from its EXIF.
    """
    if opened.plain_jpeg is None:
        return None
    try:
        orientation, pixels = _seen(opened.data, limits)
    except ValueError:
        return None
    shape = opened.size if orientation >= 5 else opened.size[::-1]
    if orientation != _orientation(opened.plain_jpeg) or pixels.shape[:2] != shape:
        return None
    return _Decoded(opened.data, opened.format, pixels, True, False, oddities)


def _read(opened: _Opened, limits: ImageLimits, oddities: dict[str, int]) -> _Decoded:
    """Raises what is in `_MALFORMED`, or RejectedError."""
    image, bits = opened.load()
    if bits and limits.stretch is None and bits <= _FEW:
        oddities[FEW_BITS] = bits
    elif limits.stretch is not None and bits > limits.stretch:
        oddities[MORE_BITS] = bits
    if limits.transparent != "drop" and _has_alpha(image) and not image.convert("RGBA").getchannel("A").getbbox():
        oddities[INVISIBLE] = 1
    # TensorFlow would decode, and hold, every frame of a GIF to return the first (giflib's DGifSlurp). What is
    # stretched is stored as it is seen, for thumbnails and whatever else reads it.
    one_frame = opened.format != "GIF" or not getattr(image, "is_animated", False)
    kept = opened.format in _KEPT_FORMATS and one_frame and not (bits and limits.stretch is not None)
    shown, orientation = upright(image, limits), _orientation(image)
    pixels = np.asarray(shown.convert("RGB"))
    kept = kept and _tensorflow_agrees(opened, pixels, orientation, limits)
    return _Decoded(opened.data, opened.format, pixels, kept, shown.mode == "L", oddities)


def _open(data: bytes, limits: ImageLimits) -> _Opened:
    """Reads the header only."""
    if not data:
        raise RejectedError("open", "the file is empty")
    if len(data) > limits.file_bytes:
        raise RejectedError("limits", f"more than {limits.max_file_mb:g} MB")
    kind = file_kinds.recognize(data)
    if kind:
        raise RejectedError("identify", str(kind))
    most = f"more than {limits.max_megapixels:g} million pixels"
    what = "a HEIC that is damaged or cut off" if hevc_size.is_heif(data) else "damaged in its header"
    try:
        excess = decode_cost.excess(data, limits)
        if excess:
            raise RejectedError("limits", excess)
        opened = _opened(data, limits)
    except Image.UnidentifiedImageError:
        raise RejectedError("identify", _unidentified(data)) from None
    except Image.DecompressionBombError:
        raise RejectedError("limits", most) from None
    except _MALFORMED as error:
        raise RejectedError("identify", f"{what}: {_words(error)}") from error
    width, height = opened.size
    if width * height > limits.pixels:
        raise RejectedError("limits", f"{width} x {height} is {most}")
    if max(opened.size) > MAX_SIDE:
        raise RejectedError("limits", f"{width} x {height} has a side longer than {MAX_SIDE} pixels")
    return opened


def _unidentified(data: bytes) -> str:
    """Why Pillow does not open it: if a TIFF's directory could be read, the cause is its pixels."""
    if not data.startswith(tiff_directory.MAGIC):
        return f"not an image, damaged in its header, or none of {', '.join(FORMATS)}"
    channels = tiff_directory.read(data).get(_SAMPLES_PER_PIXEL)
    return (
        f"a TIFF with pixels of a kind that is not read ({channels or 1} channels): save it as gray or RGB, of 8 or 16 "
        "bits, unsigned"
    )


def _opened(data: bytes, limits: ImageLimits) -> _Opened:
    if netpbm.is_netpbm(data):
        header = netpbm.read_header(data)
        return _Opened(data, _NETPBM, (header.width, header.height), lambda: _load_netpbm(data, header, limits))
    if hevc_size.is_heif(data):
        image = HeifImageFile(io.BytesIO(data))
    else:
        image = Image.open(io.BytesIO(data), formats=_PILLOWS)
    plain = image if image.format in _LOSSY_FORMATS and image.mode in ("L", "RGB") else None
    return _Opened(data, str(image.format), image.size, lambda: _load(image, data, limits), plain)


def _load_netpbm(data: bytes, header: netpbm.Header, limits: ImageLimits) -> tuple[Image.Image, int]:
    samples = netpbm.read_samples(data, header)
    pixels = _scaled(samples, header.most, limits.stretch)
    bits = _bits(samples) if header.most == _MOST_16 else 0
    return Image.fromarray(pixels[..., 0] if header.depth == 1 else pixels), bits


def _load(image: ImageFile.ImageFile, data: bytes, limits: ImageLimits) -> tuple[Image.Image, int]:
    image.load()
    tags = getattr(image, "tag_v2", {})
    if image.mode in ("I", "F"):
        signed = tags.get(_SAMPLE_FORMAT, (0,))[0] == _SIGNED
        raise RejectedError(
            "decode",
            f"{'signed' if signed else '32-bit'} pixels have no defined black and white; save it with 8 or 16 "
            "bits, unsigned",
        )
    depth = data[_PNG_DEPTH] if image.format == "PNG" else tags.get(_BITS_PER_SAMPLE, (8,))[0]
    if depth != 16:
        bits = 0
    elif image.mode.startswith("I;16"):
        bits = _bits(np.asarray(image))
    else:  # of colors, Pillow gives the upper 8 bits
        bits = 8 + _bits(np.asarray(image.convert("RGB")))
        if bits <= (limits.stretch or 0) and image.format != "PNG":
            raise RejectedError(
                "decode", "colors of 16 bits are stretched only in PNG and PPM; save it as one of these"
            )
    by_tensorflow = image.format == "PNG" and (
        (depth < 8 and image.mode in ("1", "L") and "transparency" in image.info)
        or (depth == 16 and ("transparency" in image.info or limits.stretch is not None))
    )
    if not by_tensorflow:
        return image, bits
    shown = Image.fromarray(_seen(data, limits)[1])
    shown.info = {name: value for name, value in image.info.items() if name == "exif"}
    return shown, bits


def _words(error: Exception) -> str:
    return str(error).strip() or type(error).__name__


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) if there is none that can be read, or if libheif has turned the image."""
    if image.format == _HEIF:
        return 1
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except _MALFORMED:
        return 1
    return int(found) if found in _UPRIGHT else 1


def _as_read_right(decoded: _Decoded) -> tuple[bytes, str]:
    """The file's bytes and format, or a PNG's if TensorFlow would not read those correctly."""
    if decoded.kept:
        return decoded.data, _KEPT_FORMATS[decoded.format]
    pixels = decoded.pixels[..., 0] if decoded.gray else decoded.pixels
    target = io.BytesIO()
    # A third of the time of the default level, for 1 % more bytes.
    Image.fromarray(pixels).save(target, "PNG", compress_level=1)
    return target.getvalue(), "png"


def _tensorflow_agrees(opened: _Opened, pixels: np.ndarray, orientation: int, limits: ImageLimits) -> bool:
    """Whether TensorFlow sees the same image: exactly, or for lossy formats up to the decoder's rounding.

    False for what the exported model would refuse to decode, such as a JPEG of a hundred scans, and for what it turns
    differently, such as a JPEG with much data before its EXIF: a plain image's pixels might not show that.
    """
    try:
        found, seen = _seen(opened.data, limits)
    except ValueError:
        return False
    if found != orientation or seen.shape != pixels.shape:
        return False
    if opened.format in _LOSSY_FORMATS:
        difference = np.maximum(pixels, seen) - np.minimum(pixels, seen)
        return float(difference.mean((0, 1)).max()) <= _LOSSY_TOLERANCE
    return np.array_equal(pixels, seen)


def _seen(data: bytes, limits: ImageLimits) -> tuple[int, np.ndarray]:
    """The orientation that the exported model finds in a file, and the pixels it sees, uint8 [h, w, 3], turned by it.

    Raises:
        ValueError: the model's objection to the file.
    """
    import tensorflow as tf  # ten seconds; listing files or reading settings does not need it

    with _tracing:
        graph = _graph(limits)
    try:
        problem, orientation, pixels = (value.numpy() for value in graph(tf.constant(data)))
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"TensorFlow cannot decode it: {error}") from None
    if problem:
        raise ValueError(problem.decode())
    return int(orientation), pixels


@functools.cache
def _graph(limits: ImageLimits) -> Callable[[tf.Tensor], Any]:
    """From an image file, string scalar, to the exported model's objection, the orientation and the pixels."""
    import tensorflow as tf

    from trainer.images import decoding, tolerant_decoding

    def as_pillow(jpeg: tf.Tensor) -> tf.Tensor:
        return tf.io.decode_jpeg(jpeg, 3, dct_method="INTEGER_ACCURATE")

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def read(file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        problem = tolerant_decoding.inspect(file, limits)[1]
        nothing = tf.zeros([0, 0, 3], tf.uint8)
        pixels = tf.cond(
            tf.equal(problem, ""),
            lambda: decoding.decode_upright(file, limits.transparent, limits.stretch, lambda: as_pillow(file)),
            lambda: nothing,
        )
        return problem, decoding.orientation(file), pixels

    return read.get_concrete_function()
