"""A bad image gets a reason and costs little; the others' pixels are those they have alone."""

import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.image_limits import MAX_GIF_BYTES, ImageLimits
from tests.trainer.images import bad_images
from tests.trainer.images.bad_images import encoded, png
from tests.trainer.training_data import decoded
from trainer.images import decoding, tolerant_decoding
from trainer.images.tolerant_decoding import DAMAGED, EMPTY, PALETTE, TOO_LARGE, TOO_MANY_PARTS, UNKNOWN

SIZE = 16
TOO_MANY_PIXELS = "the image has more than 64 million pixels"
GOOD = [
    encoded("JPEG", seed=1),
    encoded("JPEG", seed=2, progressive=True),
    encoded("PNG", seed=3),
    encoded("GIF", seed=4),
    encoded("BMP", seed=5),
    encoded("BMP", seed=6, mode="L"),
]

Decode = Callable[[list[bytes]], tuple[np.ndarray, list[str]]]


@pytest.fixture(scope="module")
def decode() -> Iterator[Decode]:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        files = tf.compat.v1.placeholder(tf.string, [None])
        outputs = tolerant_decoding.decode(files, SIZE, lambda file: decoding.decode(file, SIZE))

        def run(given: list[bytes]) -> tuple[np.ndarray, list[str]]:
            pixels, errors = session.run(outputs, {files: np.array(given, dtype=object)})
            return pixels, [error.decode() for error in errors]

        yield run


def test_good_images_are_decoded_as_in_training_bit_for_bit(decode: Decode) -> None:
    pixels, errors = decode(GOOD)

    assert errors == [""] * len(GOOD)
    np.testing.assert_array_equal(pixels, decoded(GOOD, SIZE))


def test_photos_of_all_kinds_are_decoded_as_in_training(decode: Decode, shared: Path) -> None:
    paths = [p for p in sorted((shared / "data").rglob("*.*")) if p.suffix in (".jpg", ".png", ".bmp")]
    found = [path.read_bytes() for path in paths[::10]]
    pixels, errors = decode(found)
    read = [file for file, error in zip(found, errors, strict=True) if not error]

    assert len(read) > 50
    np.testing.assert_array_equal(pixels[[not error for error in errors]], decoded(read, SIZE))


BAD = {
    "nothing": (b"", EMPTY),
    "text": (b"this is not an image\n", UNKNOWN),
    "a WebP": (encoded("WEBP"), UNKNOWN),
    "noise": (np.random.default_rng(0).bytes(4096), UNKNOWN),
    "a truncated JPEG": (GOOD[0][: len(GOOD[0]) // 2], DAMAGED),
    "a JPEG's first bytes": (GOOD[0][:5], DAMAGED),
    "a truncated progressive JPEG": (GOOD[1][:-300], DAMAGED),
    "a truncated PNG": (GOOD[2][: len(GOOD[2]) // 2], DAMAGED),
    "a PNG's magic": (GOOD[2][:8], DAMAGED),
    "a truncated GIF": (GOOD[3][: len(GOOD[3]) // 2], DAMAGED),
    "a GIF's magic": (b"GIF89a", DAMAGED),
    "a GIF without a frame": (GOOD[3][: GOOD[3].index(b",\0\0\0\0")] + b";", DAMAGED),
    "a truncated BMP": (GOOD[4][: len(GOOD[4]) // 2], DAMAGED),
    "a BMP's magic": (b"BM", DAMAGED),
    "a PNG of 3600 megapixels": (png(60_000, 60_000, b"\0" * 1000), TOO_MANY_PIXELS),
    "a PNG whose size overflows": (png(2**32 - 1, 2**32 - 1, b"\0" * 1000), TOO_MANY_PIXELS),
    "a PNG of 65 megapixels": (png(13_000, 5_000, bytes(1 + 13_000 // 8) * 5_000), TOO_MANY_PIXELS),
    "a GIF of 4000 megapixels": (
        GOOD[3].replace(b",\0\0\0\0\x28\0\x28\0", b",\0\0\0\0\xff\xff\xff\xff"),
        TOO_MANY_PIXELS,
    ),
    "a BMP with a palette": (encoded("BMP", mode="P"), PALETTE),
    "a BMP of 300 megapixels": (
        GOOD[4][:18] + (20_000).to_bytes(4, "little") + (-15_000).to_bytes(4, "little", signed=True) + GOOD[4][26:],
        TOO_MANY_PIXELS,
    ),
    "a JPEG of 4000 megapixels": (GOOD[0].replace(b"\x08\0\x28\0\x28\x03", b"\x08\xff\xff\xff\xff\x03"), None),
    "a GIF of 16 MB": (GOOD[3] + bytes(MAX_GIF_BYTES), TOO_LARGE),
    "a GIF of 8 MB of comments": (
        GOOD[3][: GOOD[3].index(b",\0\0\0\0")]
        + b"\x21\xfe\x01a\0" * (MAX_GIF_BYTES // 10)
        + GOOD[3][GOOD[3].index(b",\0\0\0\0") :],
        DAMAGED,
    ),
    "8 GB of text in a PNG": (bad_images.png_of_texts(1000, 8_000_000), TOO_MANY_PARTS),
    "a JPEG of 500 scans": (bad_images.jpeg_of_scans(1600, 500), TOO_MANY_PARTS),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_gets_its_reason_and_spoils_no_other(name: str, decode: Decode) -> None:
    bad, reason = BAD[name]
    began = time.process_time()  # a busy machine is no finding
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    pixels, errors = decode([GOOD[0], bad, GOOD[2]])

    seconds = time.process_time() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert errors == ["", reason or errors[1], ""]
    assert errors[1]
    assert not pixels[1].any()
    np.testing.assert_array_equal(pixels[[0, 2]], decoded([GOOD[0], GOOD[2]], SIZE))
    assert seconds < 5
    assert grown < 300, f"{grown} MB"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_a_lowered_limit_of_pixels_holds_for_every_format(kind: str) -> None:
    least = ImageLimits(max_megapixels=0.0015)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        files = tf.constant([encoded(kind, seed=1), encoded(kind, seed=1, side=38)])  # 1600 and 1444 pixels
        outputs = tolerant_decoding.decode(files, SIZE, lambda file: decoding.decode(file, SIZE), least)
        pixels, errors = session.run(outputs)

    assert errors.tolist() == [b"the image has more than 0.0015 million pixels", b""]
    assert not pixels[0].any() and pixels[1].any()


def test_files_over_the_limit_of_bytes_are_not_decoded() -> None:
    least = ImageLimits(max_file_mb=0.1, max_megapixels=0.01)
    long = GOOD[2] + bytes(least.encoded_bytes - len(GOOD[2]))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        files = tf.constant([GOOD[2], long, long + b"0"])
        outputs = tolerant_decoding.decode(files, SIZE, lambda file: decoding.decode(file, SIZE), least)
        _, errors = session.run(outputs)

    assert errors.tolist() == [b"", b"", TOO_LARGE.encode()]


def test_nothing_but_bad_images_and_no_images_at_all(decode: Decode) -> None:
    assert decode([b"", b"x"])[1] == [EMPTY, UNKNOWN]
    pixels, errors = decode([])
    assert pixels.shape == (0, SIZE, SIZE, 3)
    assert errors == []


def test_the_order_of_the_images_is_kept(decode: Decode) -> None:
    files = [file for i in range(20) for file in (GOOD[i % 5], GOOD[i % 5][: 30 + i])]
    pixels, errors = decode(files)

    assert [bool(error) for error in errors] == [False, True] * 20
    np.testing.assert_array_equal(pixels[::2], np.concatenate([decoded(GOOD[:5], SIZE)] * 4))


def test_of_an_animation_only_the_first_frame_is_decoded(decode: Decode) -> None:
    """500 frames of 16 megapixels: giflib would take 8 GB."""
    animation = bad_images.gif_of_frames(4_000, 500)
    assert len(animation) < MAX_GIF_BYTES
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    pixels, errors = decode([animation])

    assert errors == [""]
    np.testing.assert_allclose(pixels, 1, atol=1e-5)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 500


def test_extensions_before_the_first_frame_are_passed_over(decode: Decode) -> None:
    begin = GOOD[3].index(b",\0\0\0\0\x28\0\x28")
    comment = b"\x21\xfe" + (b"\xff" + b",GIF" * 63 + b"abc") * 40 + b"\0"
    looping = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"
    extended = GOOD[3][:begin] + comment * 3 + looping + GOOD[3][begin:]

    pixels, errors = decode([extended])

    assert errors == [""]
    np.testing.assert_array_equal(pixels, decoded([GOOD[3]], SIZE))
