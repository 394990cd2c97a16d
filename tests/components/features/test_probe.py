"""The built-in images that say whether stored features are still what would be computed."""

import io
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from components.features import probe
from core.image_limits import Transparent
from trainer.images import decoding

SIZE = 40


def decode(encoded: bytes) -> np.ndarray:
    return decoding.decode(tf.constant([encoded]), SIZE).numpy()[0]


def test_there_is_an_image_for_each_way_through_the_decoder() -> None:
    """A PNG's color type (byte 25) and bits (byte 24) as in its specification, 11.2.2."""
    images = probe.images(SIZE)
    kinds = {name: Image.open(io.BytesIO(encoded)).format for name, encoded in images.items()}
    assert all(name.startswith(kind) for name, kind in kinds.items())
    png = {name: (encoded[24], encoded[25]) for name, encoded in images.items() if kinds[name] == "PNG"}
    assert set(png.values()) == {(8, 2), (8, 0), (16, 0), (8, 3), (8, 6)}
    assert {Image.open(io.BytesIO(images[name])).mode for name in images if kinds[name] == "JPEG"} == {"RGB", "CMYK"}
    decoded = {decode(encoded).tobytes() for encoded in images.values()}
    assert len(decoded) == len(images) - 2, "as BMP, RGB is the same; palettes are the same"


@pytest.mark.parametrize(
    ("transparent", "stretch"), [("black", None), ("drop", None), *(("white", n) for n in range(8, 16))]
)
def test_other_settings_of_the_images_show(transparent: Transparent, stretch: int | None) -> None:
    def pixels(**settings: Any) -> set[bytes]:
        files = list(probe.images(SIZE).values())
        return {image.tobytes() for image in decoding.decode(tf.constant(files), SIZE, **settings).numpy()}

    others = [{"transparent": "white", "stretch": stretch and stretch - 1 if stretch != 8 else None}]
    assert all(pixels(transparent=transparent, stretch=stretch) != pixels(**other) for other in others)


def test_the_orientation_is_read() -> None:
    plain, turned = (probe.images(SIZE)[name] for name in ("JPEG", "JPEG, EXIF orientation 6"))
    upright = decoding.decode_upright(tf.constant(plain)).numpy()
    np.testing.assert_array_equal(decoding.decode_upright(tf.constant(turned)).numpy(), np.rot90(upright, -1))


def test_the_large_one_is_decoded_at_a_fraction_that_does_not_divide_it() -> None:
    width, height = Image.open(io.BytesIO(probe.images(SIZE)["JPEG, large"])).size
    assert min(width, height) >= 2 * 2 * 299
    assert width % 2 == height % 2 == 1


def test_distances_are_kept_and_each_image_counts() -> None:
    random = np.random.default_rng(1)
    features = random.uniform(0, 1, (12, 5, 5, 300)).astype(np.float32)

    def probed(values: np.ndarray) -> bytes:
        return probe.probe(SIZE, lambda records: values[: len(records)])

    assert probe.agree(probed(features), probed(features))
    assert probe.agree(probed(features * (1 + 1e-5)), probed(features))
    one = features.copy()
    one[3] += random.normal(0, 0.01, one[3].shape)  # 2 % of one image's norm
    assert not probe.agree(probed(one), probed(features))
    assert not probe.agree(probed(features * np.nan), probed(features))
    assert not probe.agree(b"", probed(features))
    assert len(probed(features)) == 12 * 64 * 4


@pytest.mark.parametrize("size", [75, 299])
def test_the_files_are_small_and_always_the_same(size: int) -> None:
    first, again = probe.images(size), probe.images(size)
    assert first == again
    assert sum(map(len, first.values())) < 3 * 2**20
