"""The examples of Netpbm's own manual pages, among others."""

import struct
import time

import numpy as np
import pytest
from PIL import Image

from components.ingestion.image_reading import RejectedError, for_model, read_image
from core.image_limits import ImageLimits
from tests.components.conftest import encoded, picture
from tests.components.ingestion.test_image_reading import decoded

PHOTO = picture(1, 40, 30)
GRAY = PHOTO.convert("L")


@pytest.mark.parametrize(
    ("data", "image"),
    [
        (encoded(PHOTO, "PPM"), PHOTO),
        (encoded(GRAY, "PPM"), GRAY),
        (encoded(GRAY.convert("1"), "PPM"), GRAY.convert("1")),
        (b"P6 # made\n# by hand\n40 30\n# so bright\n255\n" + PHOTO.tobytes(), PHOTO),
        (b"P3\n40 30 255\n# pixels\n" + b"\n".join(b"%d" % v for v in PHOTO.tobytes()), PHOTO),
        (b"P2 40\n30 255\n" + b" ".join(b"%d" % v for v in GRAY.tobytes()) + b"\n", GRAY),
        (b"P7\nWIDTH 40\nHEIGHT 30\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + PHOTO.tobytes(), PHOTO),
        (encoded(PHOTO, "PPM") + encoded(GRAY, "PPM"), PHOTO),
    ],
)
def test_every_kind_is_read(data: bytes, image: Image.Image) -> None:
    read = read_image(data)

    assert (read.format, read.file_format) == ("png", "ppm")
    np.testing.assert_array_equal(decoded(read.encoded), np.asarray(image.convert("RGB")))
    assert read.encoded == for_model(data)


@pytest.mark.parametrize(
    ("most", "values", "gray"),
    [
        (1, [0, 1], [0, 255]),
        (100, [0, 1, 50, 100], [0, 3, 128, 255]),
        (1023, [0, 3, 4, 512, 1023], [0, 0, 1, 128, 255]),
        (1000, [0, 500, 1000], [0, 128, 255]),
        (4095, [0, 16, 4095], [0, 1, 255]),
        (65535, [0, 255, 256, 65535], [0, 0, 1, 255]),
    ],
)
def test_the_largest_value_is_white(most: int, values: list[int], gray: list[int]) -> None:
    head = b"%d 1 %d\n" % (len(values), most)
    samples = struct.pack(f">{len(values)}{'H' if most > 255 else 'B'}", *values)
    for data in (b"P5 " + head + samples, b"P2 " + head + " ".join(map(str, values)).encode()):
        image = read_image(data)
        assert decoded(image.encoded)[0, :, 0].tolist() == gray
        assert image.oddities == {}


def test_bits_are_black_where_they_are_one() -> None:
    for data in (b"P1\n3 2\n101\n0 1 0\n", b"P4\n3 2\n" + bytes([0b10100000, 0b01000000])):
        assert decoded(for_model(data))[..., 0].tolist() == [[0, 255, 0], [255, 0, 255]]


def test_the_alpha_of_a_pam_is_laid_on_white() -> None:
    head = b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH %d\nMAXVAL 255\nTUPLTYPE X\nENDHDR\n"
    assert decoded(for_model(head % 2 + bytes([10, 255, 10, 0])))[0].tolist() == [[10] * 3, [255] * 3]
    assert decoded(for_model(head % 4 + bytes([1, 2, 3, 255, 1, 2, 3, 0])))[0].tolist() == [[1, 2, 3], [255] * 3]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (encoded(PHOTO, "PPM")[:-1], "decode: truncated or corrupt: image file is truncated"),
        (b"P4\n9 2\n" + bytes(3), "decode: truncated or corrupt: image file is truncated"),
        (b"P3 40 30 255\n" + b"1 " * 3599, "decode: truncated or corrupt: image file is truncated"),
        (b"P3 2 1 255\n1 2 3 4 5" + b" " * 9, "decode: truncated or corrupt: image file is truncated"),
        (b"P2 2 1 255\n1 x", "decode: truncated or corrupt: a value is no number"),
        (b"P2 2 1 255\n1 256", "decode: truncated or corrupt: a value is larger than 255"),
        (b"P2 2 1 255\n1 99999999999999999999", "decode: truncated or corrupt: a value is larger than 255"),
        (b"P1 2 1\n0", "decode: truncated or corrupt: image file is truncated"),
        (b"P5 40", "identify: damaged in its header: its size or largest value is missing"),
        (b"P5 -1 3 255\n", "identify: damaged in its header: its size or largest value is missing"),
        (b"P5 0 3 255\n", "identify: damaged in its header: its size or largest value is none"),
        (b"P5 2 2 65536\n" + bytes(8), "identify: damaged in its header: its size or largest value is none"),
        (b"P7\nWIDTH 2\nHEIGHT 1\nMAXVAL 255\nENDHDR\n", "identify: damaged in its header: its header has no DEPTH"),
        (b"P7\nWIDTH 2\n", "identify: damaged in its header: its header has no end"),
        (b"P6 60000 60000 255\n" + bytes(99), "limits: 60000 x 60000 is more than 64 million pixels"),
        (b"PF\n2 2\n-1.0\n" + bytes(48), "identify: a float map (PFM): map its tones"),
    ],
)
def test_what_cannot_be_used_says_why(data: bytes, words: str) -> None:
    began = time.process_time()
    with pytest.raises(RejectedError) as error:
        read_image(data)
    assert str(error.value).startswith(words)
    assert time.process_time() - began < 0.05


@pytest.mark.parametrize(
    "data",
    [
        b"P5" + b"#\n" * 10**7,
        b"P5" + b" " * 10**7 + b"x",
        b"P7\n" + b"# \n" * 10**6 + b"ENDHDR",
        b"P2 8000 8000 255\n" + b"1 " * 10**6,
        b"P3 5 5 255\n" + b"#" * 10**7,
    ],
)
def test_a_long_file_that_says_nothing_costs_milliseconds(data: bytes) -> None:
    began = time.process_time()
    with pytest.raises(RejectedError):
        read_image(data)
    assert time.process_time() - began < 0.05


def test_a_large_one_takes_no_longer_than_a_png() -> None:
    """Pillow takes a minute for such values."""
    data = b"P6 2000 2000 1023\n" + np.full(12_000_000, 500, ">u2").tobytes()
    began = time.process_time()
    read_image(data, ImageLimits(max_megapixels=4))
    assert time.process_time() - began < 5
