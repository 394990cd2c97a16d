import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from benchmarks import near_duplicates as benchmark
from components.ingestion.near_duplicates import THUMBNAIL, components, describe, groups, pairs
from tests.components.conftest import detailed


def found(pictures: list[Image.Image], distance: int = 6) -> set[tuple[int, int]]:
    described = [describe(picture) for picture in pictures]
    assert all(described)
    hashes = np.array([one[0] for one in described if one], np.uint64)
    thumbnails = np.frombuffer(b"".join(one[1] for one in described if one), np.uint8).reshape(len(pictures), -1)
    return {tuple(sorted(pair)) for pair in pairs(hashes, thumbnails, distance).tolist()}


def as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=quality)
    return Image.open(target)


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: as_jpeg(picture, 30),
        lambda picture: picture.resize((61, 40), Image.Resampling.BILINEAR),
        lambda picture: picture.resize((480, 320), Image.Resampling.BICUBIC),
        lambda picture: picture.convert("L"),
        lambda picture: ImageEnhance.Brightness(picture).enhance(0.8),
        lambda picture: ImageEnhance.Contrast(picture).enhance(0.8),
    ],
)
def test_a_picture_that_was_saved_or_scaled_anew_is_found(change: Callable[[Image.Image], Image.Image]) -> None:
    originals = [detailed(i) for i in range(40)]
    near = found([*originals, *(change(picture) for picture in originals)])
    assert near <= {(i, i + 40) for i in range(40)}, "no two different pictures"
    assert len(near) >= 39


BARS = {"JPEG of quality 30": 0.99, "half the size": 0.99, "gray": 0.99, "brighter by 20 %": 0.85}
"""Of what docs/data.md quotes from the benchmark, a little less."""


def test_drawings_of_the_same_thing_are_not_the_same_picture() -> None:
    drawn = [picture for _, picture in benchmark.digits()]

    assert len(set(benchmark.tied(drawn, 6).tolist())) == len(drawn) == 1797
    for name, least in BARS.items():
        assert benchmark.found(drawn[::10], benchmark.CHANGES[name], 6) >= least, name


def test_photos_that_were_saved_or_scaled_anew_are_found_and_no_others(shared: Path) -> None:
    photos = [photo for _, photo in benchmark.photos(shared / "data" / "flowers_500")][::10]

    assert len(set(benchmark.tied(photos, 6).tolist())) == len(photos) == 50
    for name, least in BARS.items():
        assert benchmark.found(photos, benchmark.CHANGES[name], 6) >= least - 0.1, name


def test_pictures_of_one_color_are_compared_with_nothing() -> None:
    assert describe(Image.new("RGB", (30, 30), (10, 200, 30))) is None


def test_every_pair_within_the_distance_is_found() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**64, 300, np.uint64, endpoint=False)
    flips = [sum(1 << int(bit) for bit in rng.choice(64, n % 10, replace=False)) for n in range(300)]
    hashes = np.concatenate([base, base ^ np.array(flips, np.uint64)])
    same = np.tile(np.arange(THUMBNAIL**2, dtype=np.uint8), (600, 1))
    for distance in (0, 1, 6, 9):
        near = {tuple(sorted(pair)) for pair in pairs(hashes, same, distance).tolist()}
        assert near == {(i, i + 300) for i in range(300) if i % 10 <= distance}


def test_a_film_of_equal_frames_takes_no_quadratic_time() -> None:
    frames = 5_000
    rng = np.random.default_rng(0)
    hashes = np.full(frames, 0x0123456789ABCDEF, np.uint64) ^ (np.uint64(1) << rng.integers(0, 2, frames, np.uint64))
    thumbnails = np.tile(np.arange(THUMBNAIL**2, dtype=np.uint8), (frames, 1))
    began = time.process_time()
    tied = components(frames, pairs(hashes, thumbnails, 6))
    assert len(set(tied.tolist())) == 1
    assert set(groups(hashes, thumbnails, 6, frames)[0].tolist()) == {frames}, "however many, those of one image"
    assert time.process_time() - began < 10  # all pairs, under all 28 keys, would be 350 million


def film(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """A chain: the hash of each frame differs from the one before in three bits, and from all others in more."""
    rng = np.random.default_rng(0)
    steps = [sum(1 << int(bit) for bit in rng.choice(64, 3, replace=False)) for _ in range(frames)]
    hashes = np.bitwise_xor.accumulate(np.array(steps, np.uint64))
    return hashes, np.tile(np.arange(THUMBNAIL**2, dtype=np.uint8), (frames, 1))


def test_a_long_chain_is_divided_into_groups_around_one_image_each_in_no_quadratic_time() -> None:
    hashes, thumbnails = film(5_000)
    began = time.process_time()
    found, divided = groups(hashes, thumbnails, 6, 5_000)
    assert time.process_time() - began < 10
    assert set(divided.tolist()) == {divided[0]} != {-1}
    assert 1_000 < len(set(found.tolist())) < 3_000 and np.bincount(found).max() < 10
    of_first = hashes[np.unique(found, return_index=True)[1][np.unique(found, return_inverse=True)[1]]]
    differ = np.unpackbits((hashes ^ of_first).view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)
    assert differ.max() <= 6, "each is a near-duplicate of the image around which its group is"


def test_a_chain_of_few_images_among_many_is_one_group() -> None:
    hashes, thumbnails = film(50)
    for images, number in ((1_000, 1), (999, len(set(groups(hashes, thumbnails, 6, 50)[0].tolist())))):
        found, divided = groups(hashes, thumbnails, 6, images)
        assert (len(set(found.tolist())), set(divided.tolist()) == {-1}) == (number, number == 1)


def test_a_long_chain_of_images_that_are_all_near_is_not_said_to_be_divided() -> None:
    hashes, thumbnails = np.full(300, 7, np.uint64), np.tile(np.arange(THUMBNAIL**2, dtype=np.uint8), (300, 1))
    found, divided = groups(hashes, thumbnails, 6, 300)
    assert len(set(found.tolist())) == 1 and set(divided.tolist()) == {-1}
