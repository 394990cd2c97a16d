"""What each transform does to the pixels of real images."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from core.settings.training import AugmentationConfig
from tests.components.conftest import picture
from trainer.images.augmentation import augment, view_seeds

SIZE = 40
IMAGES = np.stack([np.asarray(picture(seed, SIZE, SIZE)) for seed in range(64)]).astype(np.float32) / 127.5 - 1.0
SEEDS = np.stack([np.full(64, 3), np.arange(64)], axis=-1)


def varied(images: np.ndarray = IMAGES, seeds: np.ndarray = SEEDS, **config: float | bool) -> np.ndarray:
    made = augment(tf.constant(images), tf.constant(seeds, tf.int64), AugmentationConfig(**config))  # type: ignore[arg-type]
    return made.numpy()


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_others() -> None:
    found = varied(flip=True)
    same = (found == IMAGES).all((1, 2, 3))
    mirrored = (found == IMAGES[:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 20 <= mirrored.sum() <= 44


def test_crop_shows_a_part_of_the_image_at_most_that_much_smaller() -> None:
    """On a image whose red and green say where a pixel is, the corners tell what was cut away."""
    down, right = np.meshgrid(np.linspace(-1, 1, SIZE), np.linspace(-1, 1, SIZE), indexing="ij")
    places = np.stack([down, right, 0 * down], -1).astype(np.float32)
    found = varied(np.repeat(places[None], 64, 0), crop=0.3)
    top, left = (found[:, 0, 0, 0] + 1) / 2, (found[:, 0, 0, 1] + 1) / 2
    bottom, right_end = (found[:, -1, -1, 0] + 1) / 2, (found[:, -1, -1, 1] + 1) / 2
    side = bottom - top
    np.testing.assert_allclose(right_end - left, side, atol=1e-5)
    assert (side >= 0.7 - 1e-5).all() and side.min() < 0.75 and side.max() > 0.95
    assert (top >= -1e-6).all() and (left >= -1e-6).all() and (bottom <= 1 + 1e-6).all()
    assert np.abs(top - left).max() > 0.05
    centre = (found[:, 0, 0] + found[:, -1, -1]) / 2  # it is resized evenly
    np.testing.assert_allclose(found[:, SIZE // 2 - 1 : SIZE // 2 + 1].mean((1, 2))[:, 0], centre[:, 0], atol=1e-5)


def test_color_multiplies_each_channel_by_its_own_factor() -> None:
    dim = IMAGES * 0.25 - 0.5  # so that nothing reaches white
    gains = (varied(dim, color=0.2) + 1) / (dim + 1)
    assert np.ptp(gains, axis=(1, 2)).max() < 1e-4
    gains = gains[:, 0, 0]
    assert (np.abs(gains - 1) <= 0.2 + 1e-5).all()
    assert gains.min() < 0.82 and gains.max() > 1.18
    assert np.ptp(gains, axis=-1).mean() > 0.1


def test_brightness_adds_the_same_to_every_pixel() -> None:
    gray = IMAGES * 0.5
    added = varied(gray, brightness=0.1) - gray
    assert np.ptp(added, axis=(1, 2, 3)).max() < 1e-5
    added = added[:, 0, 0, 0]
    assert (np.abs(added) <= 0.2 + 1e-6).all()  # a tenth of the range from -1 to 1
    assert added.min() < -0.15 and added.max() > 0.15


def test_cutout_grays_one_square_of_at_most_that_size() -> None:
    light = np.abs(IMAGES) * 0.5 + 0.1  # no pixel is gray by itself
    found = varied(light, cutout=0.25)
    changed = (found != light).any(-1)
    assert (found[changed] == 0).all()
    for mask in changed:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert 1 <= len(rows) <= 10 and 1 <= len(columns) <= 10
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert (changed.sum((1, 2)) >= 99).mean() > 0.4  # the others lie across the border


def test_pixels_stay_in_range() -> None:
    found = varied(flip=True, crop=0.3, color=0.5, brightness=0.5, cutout=0.3)
    assert found.shape == IMAGES.shape and found.dtype == np.float32
    assert found.min() == -1 and found.max() == 1


def test_a_variant_follows_from_its_seed_alone() -> None:
    config = {"flip": True, "crop": 0.3, "color": 0.2, "brightness": 0.2, "cutout": 0.2}
    whole = varied(**config)
    np.testing.assert_array_equal(varied(IMAGES[5:9], SEEDS[5:9], **config), whole[5:9])
    assert not np.isclose(varied(seeds=SEEDS + np.array([1, 0]), **config), whole).all((1, 2, 3)).any()


def test_one_transform_does_the_same_whatever_else_is_on() -> None:
    mirrored = (varied(flip=True) != IMAGES).any((1, 2, 3))
    with_gray = varied(flip=True, cutout=0.1)
    plain = np.where(mirrored[:, None, None, None], IMAGES[:, :, ::-1], IMAGES)
    assert ((with_gray == plain) | (with_gray == 0)).all()


def test_views_of_a_image_have_seeds_of_their_own() -> None:
    names = tf.constant([b"a", b"b"])
    seeds = [view_seeds(names, seed, tf.constant(view, tf.int64)).numpy() for seed in (1, 2) for view in (0, 1)]
    assert len({tuple(row) for one in seeds for row in one.tolist()}) == 8
    np.testing.assert_array_equal(seeds[0], view_seeds(names, 1, tf.constant(0, tf.int64)).numpy())


def test_settings_that_vary_nothing_are_refused() -> None:  # bounds: tests/core/settings/cases/training.txt
    with pytest.raises(ValueError, match="augmentation varies nothing"):
        AugmentationConfig()
