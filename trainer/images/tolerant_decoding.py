"""Decoding in the exported model's graph, in which a bad image cannot break a request or exhaust the server.

TensorFlow's decoders fail the entire request at the first image they cannot read, and take as much memory and time as a
file makes them. Here, a file's claims are checked before it is decoded, and a failure becomes that image's error in the
response. Training does not need this, since ingestion admits only sound images.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import tensorflow as tf

from core.image_limits import DEFAULT_LIMITS, MAX_GIF_BYTES, MAX_JPEG_SCANS, MAX_PNG_TEXTS, ImageLimits

EMPTY = "the image is empty"
TOO_LARGE = "the image has too many bytes"
UNKNOWN = "not an image, or none of JPEG, PNG, GIF, BMP"
TOO_MANY_PARTS = "the image has more scans or text chunks than any good one"
PALETTE = "a BMP with a palette; save it as PNG"
DAMAGED = "the image is truncated or damaged"

_PARALLEL = 4  # images; one of 64 megapixels takes 192 MB decoded
_BMP_HEAD = 14 + 124 + 1024  # bytes: the longest headers there are, and a palette
_HEAD = 32  # bytes, enough for the size in a PNG
_MAX_GIF_EXTENSIONS = 1000  # blocks before the first frame
_MAX_GIF_BLOCKS = 10_000  # of them, of at most 255 bytes each


def too_many_pixels(limits: ImageLimits) -> str:
    """The error for an image with more pixels than allowed."""
    return f"the image has more than {limits.max_megapixels:g} million pixels"


def decode(
    encoded: tf.Tensor,
    image_size: int,
    transform: Callable[[tf.Tensor], tf.Tensor],
    limits: ImageLimits = DEFAULT_LIMITS,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Applies `transform` to every image it can read.

    TensorFlow graphs have no try and except, but a `tf.data.Dataset` can drop elements that fail; positions tell which
    ones are left. (`get_single_element` is tf.data's documented way into a serving graph.)

    Args:
        encoded: string [n], image files.
        image_size: S, in pixels.
        transform: string [1] to float32 [1, S, S, 3]; may raise whatever TensorFlow raises.

    Returns:
        float32 [n, S, S, 3], zeros for unreadable images; and errors, string [n], empty for readable images.
    """
    blank = tf.zeros([image_size, image_size, 3])
    count = tf.size(encoded, out_type=tf.int64)

    def attempt(position: tf.Tensor, file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        file, error = inspect(file, limits)
        return position, tf.cond(tf.equal(error, ""), lambda: transform(file[None])[0], lambda: blank), error

    files = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
    decoded = files.map(attempt, num_parallel_calls=_PARALLEL, deterministic=False).ignore_errors()
    last = tf.data.Dataset.from_tensors((count, blank, ""))  # so that an element is left if all others are dropped
    positions, images, errors = decoded.concatenate(last).batch(count + 1).get_single_element()
    shape = tf.stack([count + 1, image_size, image_size, 3])
    images = tf.scatter_nd(positions[:, None], images, shape)[:-1]
    images.set_shape([None, image_size, image_size, 3])
    return images, tf.tensor_scatter_nd_update(tf.fill([count + 1], DAMAGED), positions[:, None], errors)[:-1]


def inspect(file: tf.Tensor, limits: ImageLimits = DEFAULT_LIMITS) -> tuple[tf.Tensor, tf.Tensor]:
    """Checks, without decoding, whether a file may be passed to a decoder.

    Returns:
        The file, a string scalar, with only the first frame of an animated GIF; and what is wrong with it, or "".

    Raises:
        tf.errors.InvalidArgumentError: when run, on a JPEG damaged in its header.
    """
    size = tf.strings.length(file)
    head = _octets(tf.strings.substr(file, 0, _HEAD), padding=_HEAD)

    def begins(magic: bytes) -> tf.Tensor:
        return tf.reduce_all(tf.equal(head[: len(magic)], list(magic)))

    return tf.case(
        [
            (tf.equal(size, 0), lambda: (file, tf.constant(EMPTY))),
            (size > limits.encoded_bytes, lambda: (file, tf.constant(TOO_LARGE))),
            (begins(b"\xff\xd8\xff"), lambda: (file, _jpeg_problem(file, limits))),
            (begins(b"\x89PNG\r\n\x1a\n"), lambda: (file, _png_problem(file, head, limits))),
            (begins(b"GIF8") & (size > MAX_GIF_BYTES), lambda: (file, tf.constant(TOO_LARGE))),
            (begins(b"GIF8"), lambda: _first_frame(file, head, limits)),
            (begins(b"BM"), lambda: (file, _bmp_problem(file, head, limits))),
        ],
        default=lambda: (file, tf.constant(UNKNOWN)),
    )


def claimed_pixels(file: bytes) -> int:
    """How many pixels decoding a file would produce; see `claimed_size`."""
    width, height = claimed_size(file)
    return width * height


def claimed_size(file: bytes) -> tuple[int, int]:
    """Width and height from a file's header; 0 if the format is not decoded or the header is damaged.

    Raises:
        ValueError: it is a GIF whose first frame begins too far into the file.
    """
    try:
        if file.startswith(b"\xff\xd8\xff"):
            height, width, _ = tf.io.extract_jpeg_shape(file).numpy()
        elif file.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack_from(">II", file, 16)
        elif file.startswith(b"GIF8"):
            width, height = struct.unpack_from("<HH", file, _gif_frame(file) + 5)
        elif file.startswith(b"BM"):
            width, height = map(abs, struct.unpack_from("<ii", file, 18))
        else:
            return 0, 0
    except (tf.errors.InvalidArgumentError, struct.error, IndexError):
        return 0, 0
    return int(width), int(height)


def _gif_frame(file: bytes) -> int:
    """The position of a GIF's first frame descriptor. Raises IndexError if there is none."""
    place, blocks = 13 + (3 * 2 << file[10] % 8 if file[10] >= 128 else 0), 0
    while file[place] == 0x21:
        place += 2
        while length := file[place]:
            place += 1 + length
            blocks += 1
            if blocks > _MAX_GIF_BLOCKS:
                raise ValueError("a GIF has more comments than any good one")
        place += 1
        blocks += 1
    return place


def _too_many(width: tf.Tensor, height: tf.Tensor, limits: ImageLimits) -> dict[str, tf.Tensor]:
    """Whether there are too many pixels; the product of 32-bit numbers fits into 64 bits or turns negative."""
    pixels = tf.cast(width, tf.int64) * tf.cast(height, tf.int64)
    return {too_many_pixels(limits): (pixels > limits.pixels) | (pixels < 0)}


def _jpeg_problem(file: tf.Tensor, limits: ImageLimits) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(file)
    scans = _occurrences(file, b"\xff\xda\x00")  # start of scan, whose header is shorter than 256 bytes
    return _first_of({**_too_many(shape[1], shape[0], limits), TOO_MANY_PARTS: scans > MAX_JPEG_SCANS})


def _bmp_problem(file: tf.Tensor, head: tf.Tensor, limits: ImageLimits) -> tf.Tensor:
    """TensorFlow reads palette indices as gray values, which is right only for a gray palette."""

    def number(place: int) -> tf.Tensor:
        return tf.bitcast(tf.cast(head[place : place + 4], tf.uint8), tf.int32)

    width, height = tf.abs(number(18)), tf.abs(number(22))  # a height below 0: from the top down
    octets = _octets(tf.strings.substr(file, 0, _BMP_HEAD), padding=_BMP_HEAD)
    palette = tf.reshape(octets[14 + tf.clip_by_value(number(14), 0, 124) :][:1024], [256, 4])[:, :3]
    colored = tf.equal(head[28], 8) & tf.reduce_any(tf.not_equal(palette, tf.range(256)[:, None]))
    return _first_of({**_too_many(width, height, limits), PALETTE: colored})


def _png_problem(file: tf.Tensor, head: tf.Tensor, limits: ImageLimits) -> tf.Tensor:
    powers = tf.constant([2**24, 2**16, 2**8, 1], tf.int64)
    width, height = (tf.reduce_sum(tf.cast(head[i : i + 4], tf.int64) * powers) for i in (16, 20))
    texts = tf.add_n([_occurrences(file, kind) for kind in (b"zTXt", b"iTXt", b"iCCP")])
    return _first_of({**_too_many(width, height, limits), TOO_MANY_PARTS: texts > MAX_PNG_TEXTS})


def _first_frame(file: tf.Tensor, head: tf.Tensor, limits: ImageLimits) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts a GIF off after its first frame, since giflib would decode and hold all of them (GIF89a specification,
    15-27).

    Data come in chains of blocks that begin with their length; a chain ends with a block of length 0. The end of the
    chain starting at each position is found for all positions at once, by following links, then links of links, etc.
    """
    size = tf.strings.length(file)
    octets = _octets(file, padding=16)
    places = tf.range(tf.size(octets))
    link = tf.where(tf.equal(octets, 0), places, tf.minimum(places + 1 + octets, size))  # behind the file are zeros
    _, end = tf.while_loop(
        lambda steps, _: steps < size, lambda steps, link: (steps * 2, tf.gather(link, link)), (1, link)
    )

    def color_table_bytes(flags: tf.Tensor) -> tf.Tensor:
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def at_extension(place: tf.Tensor) -> tf.Tensor:
        return tf.equal(octets[place], 0x21)

    def behind_extension(place: tf.Tensor) -> tf.Tensor:
        return tf.minimum(end[tf.minimum(place + 2, size)] + 1, size)

    first = tf.minimum(13 + color_table_bytes(head[10]), size)
    frame = tf.while_loop(at_extension, behind_extension, [first], maximum_iterations=_MAX_GIF_EXTENSIONS)[0]
    described = tf.minimum(frame, size - 1)
    width, height = (octets[described + i] + 256 * octets[described + i + 1] for i in (5, 7))
    data = described + 11 + color_table_bytes(octets[described + 9])
    stop = end[tf.minimum(data, size)]
    complete = tf.equal(octets[frame], 0x2C) & (stop < size)
    first_frame = tf.strings.join([tf.strings.substr(file, 0, stop + 1), b";"])
    return first_frame, _first_of({DAMAGED: ~complete, **_too_many(width, height, limits)})


def _octets(text: tf.Tensor, padding: int) -> tf.Tensor:
    """The bytes of a string scalar, int32, padded with zeros."""
    return tf.pad(tf.cast(tf.io.decode_raw(text, tf.uint8), tf.int32), [[0, padding]])


def _occurrences(text: tf.Tensor, part: bytes) -> tf.Tensor:
    return tf.size(tf.strings.split(text[None], part).values) - 1


def _first_of(problems: dict[str, tf.Tensor]) -> tf.Tensor:
    """The first problem that is present, a string scalar; "" if none is."""
    found = tf.constant("")
    for words, present in reversed(problems.items()):
        found = tf.where(present, words, found)
    return found
