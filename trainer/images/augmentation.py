"""Random variants of training images, as tensors: flip, crop, color, brightness, cutout.

Applied to the output of Transform's graph, never in evaluation or serving. All draws depend only on the image's seed:
the same seed gives the same variant in any batch or process.
"""

from __future__ import annotations

import tensorflow as tf

from core.settings.augmentation import AugmentationConfig

_DRAWS = 10  # random numbers per image; each transform has its own, so that enabling one does not change the others
_VIEWS = 1000  # more than `AugmentationConfig.views` allows: keeps the seeds of views distinct


def augment(images: tf.Tensor, seeds: tf.Tensor, config: AugmentationConfig) -> tf.Tensor:
    """A variant of each image.

    Args:
        images: float32 [b, S, S, 3] in [-1, 1]; so are the variants.
        seeds: int64 [b, 2].
    """
    draws = tf.map_fn(
        lambda seed: tf.random.stateless_uniform([_DRAWS], seed),
        seeds,
        fn_output_signature=tf.TensorSpec([_DRAWS], tf.float32),
    )
    if config.flip:
        images = tf.where(draws[:, 0, None, None, None] < 0.5, tf.reverse(images, [2]), images)
    if config.crop:
        images = _crop(images, config.crop, draws[:, 1:4])
    if config.color:
        gains = 1.0 + config.color * _symmetric(draws[:, 4:7])
        images = (images + 1.0) * gains[:, None, None, :] - 1.0
    if config.brightness:  # of the range, which is 2
        images += 2.0 * config.brightness * _symmetric(draws[:, 7])[:, None, None, None]
    images = tf.clip_by_value(images, -1.0, 1.0)
    return _cut_out(images, config.cutout, draws[:, 8:10]) if config.cutout else images


def view_seeds(hashes: tf.Tensor, seed: int, view: tf.Tensor) -> tf.Tensor:
    """The seeds, int64 [b, 2], of one cached view; they depend on the image, not on its position in the data.

    Args:
        hashes: `image/sha256`, string [b].
        view: its number, an int64 scalar.
    """
    images = tf.strings.to_hash_bucket_fast(hashes, tf.int64.max)
    return tf.stack([images, tf.fill(tf.shape(images), seed * _VIEWS + view)], axis=-1)


def _symmetric(draws: tf.Tensor) -> tf.Tensor:
    return 2.0 * draws - 1.0  # from [0, 1) to [-1, 1)


def _crop(images: tf.Tensor, most: float, draws: tf.Tensor) -> tf.Tensor:
    """Crops a square from each image, with sides shorter by up to the fraction `most`, and resizes it bilinearly."""
    side = 1.0 - most * draws[:, 0]
    top, left = draws[:, 1] * (1.0 - side), draws[:, 2] * (1.0 - side)
    boxes = tf.stack([top, left, top + side, left + side], axis=-1)
    return tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), images.shape[1:3])


def _cut_out(images: tf.Tensor, fraction: float, draws: tf.Tensor) -> tf.Tensor:
    """Grays a square of side `fraction` * S around a random place of each image (DeVries & Taylor 2017)."""
    size = images.shape[1]
    away = tf.abs(tf.range(size, dtype=tf.float32) + 0.5 - draws[:, :, None] * size)  # [b, 2, S], in pixels
    inside = away < fraction * size / 2
    hidden = inside[:, 0, :, None] & inside[:, 1, None, :]
    return tf.where(hidden[..., None], 0.0, images)
