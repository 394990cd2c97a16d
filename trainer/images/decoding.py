"""From an encoded image to the network's input, with TensorFlow operations only."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from core.image_limits import Transparent

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_EXIF = b"Exif\0\0"
_RATIOS = (2, 4, 8)  # at which libjpeg decodes cheaply: it transforms each block of 8 x 8 to fewer pixels
_LEFT = 2  # times the network's side that a reduced JPEG keeps for resizing to average over
_PARALLEL_IMAGES = 8
_EXIF_WINDOW = 16384  # bytes; the EXIF segment comes first in a JPEG, its orientation entry near its start


def decode(
    encoded: tf.Tensor, image_size: int, transparent: Transparent = "white", stretch: int | None = None
) -> tf.Tensor:
    """Decodes images, turns them upright, resizes them, and scales them as for InceptionV3's pre-training.

    Any color mode becomes RGB; an animation is reduced to its first frame. Resizing is bilinear with antialiasing:
    without it, a large photo would be sampled at only 299 of its thousands of pixels per side. A large JPEG is decoded
    at a fraction of its size, with at least twice S per side.

    Args:
        encoded: string [b]; JPEG, PNG, GIF or BMP files.
        image_size: S, in pixels.
        transparent: as in `core.image_limits.ImageLimits`, like `stretch`.

    Returns:
        float32 [b, S, S, 3] in [-1, 1].
    """

    def one(file: tf.Tensor) -> tf.Tensor:
        pixels = _as_stored(file, transparent, stretch, lambda: _reduced_jpeg(file, _LEFT * image_size))
        resized = upright(_resize(pixels, _covered(file, pixels), image_size), orientation(file))
        # Resizing rounds past the ends. No division: TensorFlow turns it into a multiplication, which rounds
        # differently, where it optimizes graphs, but not in tf.data's functions, as in the exported model.
        return tf.clip_by_value(resized, 0.0, 255.0) * (1 / 127.5) - 1.0

    spec = tf.TensorSpec([image_size, image_size, 3], tf.float32)
    return tf.map_fn(one, encoded, parallel_iterations=_PARALLEL_IMAGES, fn_output_signature=spec)


def decode_upright(
    file: tf.Tensor,
    transparent: Transparent = "white",
    stretch: int | None = None,
    decode_jpeg: Callable[[], tf.Tensor] | None = None,
) -> tf.Tensor:
    """One image file, string scalar, as people see it: uint8 [h, w, 3], RGB.

    `decode_jpeg` replaces the default decoding of a JPEG, at full size and with TensorFlow's default options.
    """
    return upright(_as_stored(file, transparent, stretch, decode_jpeg), orientation(file))


def _as_stored(
    file: tf.Tensor, transparent: Transparent, stretch: int | None, decode_jpeg: Callable[[], tf.Tensor] | None
) -> tf.Tensor:
    """Like `decode_upright`, but not turned yet."""
    pixels = tf.case(
        [
            (_begins(file, _JPEG), decode_jpeg or (lambda: tf.io.decode_jpeg(file, 3))),
            (_begins(file, _PNG), lambda: _decode_png(file, transparent, stretch)),
        ],
        default=lambda: tf.image.decode_image(file, channels=3, expand_animations=False),
    )
    pixels.set_shape([None, None, 3])
    return pixels


def _begins(file: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.equal(tf.strings.substr(file, 0, len(magic)), magic)


def _reduced_jpeg(file: tf.Tensor, least: int) -> tf.Tensor:
    """Decodes a JPEG at the smallest of full, half, quarter and eighth size that has `least` pixels per side."""
    shorter = tf.reduce_min(tf.io.extract_jpeg_shape(file)[:2])
    halvings = tf.add_n([tf.cast(shorter >= ratio * least, tf.int32) for ratio in _RATIOS])
    return tf.switch_case(halvings, [functools.partial(tf.io.decode_jpeg, file, 3, ratio) for ratio in (1, *_RATIOS)])


def _covered(file: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """How many of the decoded pixels per side the image covers, float32 [2].

    If the fraction does not divide a JPEG's size, the last pixels are covered only in part; counting them in full would
    shift the rest.
    """
    shape = tf.cast(tf.shape(pixels)[:2], tf.float32)
    whole = tf.cond(
        _begins(file, _JPEG), lambda: tf.cast(tf.io.extract_jpeg_shape(file)[:2], tf.float32), lambda: shape
    )
    return whole / tf.round(whole / shape)


def _resize(pixels: tf.Tensor, covered: tf.Tensor, side: int) -> tf.Tensor:
    """Like bilinear `tf.image.resize` with antialiasing, for the covered part of uint8 [h, w, 3]."""
    return tf.raw_ops.ScaleAndTranslate(
        images=pixels[None],
        size=[side, side],
        scale=tf.constant([side, side], tf.float32) / covered,
        translation=[0.0, 0.0],
        kernel_type="triangle",
        antialias=True,
    )[0]


def _decode_png(file: tf.Tensor, transparent: Transparent, stretch: int | None) -> tf.Tensor:
    """Uint8 [h, w, 3]. Formats and PNGs without transparency pay nothing for it."""

    def opaque() -> tf.Tensor:
        return _in_eight_bits(file, 3, stretch)

    if transparent == "drop":
        return opaque()
    color_type = tf.strings.substr(file, 25, 1)
    has_alpha = tf.reduce_any(tf.equal(color_type, [b"\4", b"\6"]))
    has_transparent_color = tf.size(tf.strings.split(file[None], b"tRNS").values) > 1  # a chunk, or chance
    return tf.cond(
        has_alpha | has_transparent_color,
        lambda: on_background(_in_eight_bits(file, 4, stretch), 255 if transparent == "white" else 0),
        opaque,
    )


def _in_eight_bits(file: tf.Tensor, channels: int, stretch: int | None) -> tf.Tensor:
    """A PNG's pixels, uint8 [h, w, channels]: the upper 8 of 16 bits, or of `stretch` bits."""

    def upper() -> tf.Tensor:
        return tf.io.decode_png(file, channels)

    def stretched(bits: int) -> tf.Tensor:
        values = tf.io.decode_png(file, channels, tf.uint16)
        shift = tf.where(tf.reduce_max(values[..., :3]) < 1 << bits, tf.constant(bits - 8, tf.uint16), 8)
        colors = tf.bitwise.right_shift(values[..., :3], shift)
        return tf.cast(tf.concat([colors, tf.bitwise.right_shift(values[..., 3:], 8)], -1), tf.uint8)

    if stretch is None:
        return upper()
    return tf.cond(tf.equal(tf.strings.substr(file, 24, 1), b"\x10"), lambda: stretched(stretch), upper)


def on_background(pixels: tf.Tensor, background: int) -> tf.Tensor:
    """Lays uint8 [h, w, 4], RGB and alpha, on a gray: (color * alpha + gray * (255 - alpha) + 127) / 255, rounded down.

    Every value fits into 16 bits; ingestion computes the same with NumPy.
    """
    wide = tf.cast(pixels, tf.uint16)
    colors, alpha = wide[..., :3], wide[..., 3:]
    return tf.cast((colors * alpha + background * (255 - alpha) + 127) // 255, tf.uint8)


def orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of an image file, which TensorFlow's decoders ignore and phones rely on.

    Reads tag 0x0112 of the first image directory (EXIF 2.32, section 4.6) from a string scalar. Returns an int32 scalar
    from 1 to 8; a tag that is absent, malformed or out of range counts as 1, upright.
    """
    parts = tf.strings.split(tf.strings.substr(encoded, 0, _EXIF_WINDOW)[None], _EXIF, maxsplit=1).values
    found = _begins(encoded, _JPEG[:2]) & (tf.size(parts) > 1)
    return tf.cond(found, lambda: _orientation_in(parts[1]), lambda: tf.constant(1))


def _orientation_in(exif: tf.Tensor) -> tf.Tensor:
    """The orientation in EXIF data, a string scalar that begins with the TIFF header."""
    octets = tf.cast(tf.io.decode_raw(exif, tf.uint8), tf.int32)
    octets = tf.pad(octets, [[0, 16]])  # so that no gather below runs past the end
    last = tf.size(octets) - 1
    little = tf.equal(octets[0], ord("I"))

    def number(positions: tf.Tensor, size: int) -> tf.Tensor:
        parts = tf.gather(octets, tf.clip_by_value(positions[..., None] + tf.range(size), 0, last))
        powers = 256 ** np.arange(size, dtype=np.int32)
        return tf.reduce_sum(parts * tf.where(little, powers, powers[::-1]), axis=-1)

    directory = tf.clip_by_value(number(tf.constant(4), 4), 0, _EXIF_WINDOW)
    entries = directory + 2 + 12 * tf.range(tf.minimum(number(directory, 2), 64))
    values = tf.boolean_mask(number(entries + 8, 2), tf.equal(number(entries, 2), 0x0112))
    value = tf.concat([values, [1]], 0)[0]
    return tf.where((value >= 1) & (value <= 8), value, 1)


def upright(pixels: tf.Tensor, exif: tf.Tensor) -> tf.Tensor:
    """Undoes an EXIF orientation, an int32 scalar: from [h, w, 3] to [h, w, 3] or [w, h, 3] of the same dtype."""
    turned = tf.cond(exif >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    turned = tf.cond(tf.reduce_any(tf.equal(exif, [3, 4, 7, 8])), lambda: tf.reverse(turned, [0]), lambda: turned)
    turned = tf.cond(tf.reduce_any(tf.equal(exif, [2, 3, 6, 7])), lambda: tf.reverse(turned, [1]), lambda: turned)
    turned.set_shape([None, None, 3])
    return turned
