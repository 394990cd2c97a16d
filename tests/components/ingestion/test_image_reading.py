import hashlib
import io
import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from components.ingestion import image_statistics, near_duplicates
from components.ingestion.image_reading import RejectedError, for_model, in_eight_bits, read_image
from tests.components.conftest import detailed, encoded, picture
from tests.conftest import ROOT
from tests.trainer import bad_pictures
from trainer import image_decoding
from trainer.picture_limits import PictureLimits

ORIENTATION = 0x0112
PHOTO = picture(1, 40, 30)
PALETTE = PHOTO.convert("P")
GREY_16 = Image.fromarray(np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32))


def decoded(data: bytes) -> np.ndarray:
    """What the pipeline's graph sees."""
    return image_decoding.decode_upright(tf.constant(data)).numpy()


def expected(data: bytes) -> np.ndarray:
    """What a person sees: Pillow's pixels, upright, without alpha."""
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
            return np.repeat((np.asarray(upright) // 256).astype(np.uint8)[:, :, None], 3, axis=2)
        return np.asarray(upright.convert("RGB"))


def rotated(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def reason(data: bytes) -> str:
    with pytest.raises(RejectedError) as error:
        read_image(data)
    return str(error.value)


@pytest.mark.parametrize(
    ("data", "stored"),
    [
        (encoded(PHOTO, "JPEG"), "jpeg"),
        (encoded(PHOTO, "JPEG", progressive=True), "jpeg"),
        (encoded(PHOTO.convert("L"), "JPEG"), "jpeg"),
        (encoded(PHOTO.convert("CMYK"), "JPEG"), "jpeg"),
        *((encoded(PHOTO, "JPEG", exif=rotated(orientation)), "jpeg") for orientation in range(1, 9)),
        (encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO], exif=rotated(6)), "jpeg"),
        (encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO]), "jpeg"),
        (encoded(PHOTO), "png"),
        (encoded(PHOTO.convert("L")), "png"),
        (encoded(PHOTO.convert("P")), "png"),
        (encoded(PHOTO.convert("1")), "png"),
        (encoded(PHOTO.convert("RGBA")), "png"),
        (encoded(GREY_16), "png"),
        (encoded(PHOTO.convert("P"), "GIF"), "gif"),
        (encoded(PHOTO, "BMP"), "bmp"),
    ],
)
def test_bytes_that_tensorflow_reads_right_are_kept(data: bytes, stored: str) -> None:
    image = read_image(data)
    assert (image.encoded, image.format) == (data, stored)
    assert np.abs(decoded(image.encoded).astype(int) - expected(data)).mean() <= 3
    assert (image.height, image.width) == expected(data).shape[:2]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_what_is_said_of_a_turned_jpeg_is_said_of_the_upright_picture(orientation: int) -> None:
    data = encoded(detailed(1), "JPEG", exif=rotated(orientation))
    upright = Image.fromarray(expected(data))

    image = read_image(data)

    assert (image.width, image.height) == upright.size
    assert image.pixels == hashlib.sha256(b"%d %d " % upright.size + upright.tobytes()).hexdigest()
    assert image.statistics == image_statistics.measure(upright)
    assert image.likeness == near_duplicates.describe(upright)


def test_a_jpeg_that_the_graph_would_turn_otherwise_becomes_a_png_however_plain_it_is() -> None:
    """So plain that its pixels would pass for the same, turned or not."""
    plain = Image.new("RGB", (32, 32), (90, 90, 90))
    plain.paste((100, 90, 90), (0, 0, 8, 8))
    turned, straight = encoded(plain, "JPEG", exif=rotated(3)), encoded(plain, "JPEG")
    block = rotated(6).tobytes()
    in_comment = straight[:2] + b"\xff\xfe" + struct.pack(">H", len(block) + 2) + block + straight[2:]
    far_behind = turned[:2] + (b"\xff\xe2" + struct.pack(">H", 20_002) + bytes(20_000)) + turned[2:]
    in_xmp = encoded(plain, "JPEG", xmp=b'<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>')

    for data in (in_comment, far_behind, in_xmp):
        image = read_image(data)
        assert image.format == "png"
        np.testing.assert_array_equal(decoded(image.encoded), expected(data))
    assert read_image(turned).encoded == turned


@pytest.mark.parametrize(
    "data",
    [
        encoded(PHOTO, "WEBP", lossless=True),
        encoded(PHOTO, "AVIF"),
        encoded(PHOTO, "TIFF"),
        encoded(PHOTO, "TIFF", compression="tiff_lzw", exif=rotated(6)),
        encoded(PHOTO.convert("CMYK"), "TIFF"),
        encoded(GREY_16, "TIFF"),
        encoded(PHOTO.convert("P"), "BMP"),  # TensorFlow takes palette indices for grey.
        encoded(PALETTE, "GIF", transparency=PALETTE.getpixel((0, 0))),  # TensorFlow paints transparent pixels black.
        encoded(PHOTO.convert("P"), "GIF", save_all=True, append_images=[picture(2, 40, 30).convert("P")]),
        encoded(PHOTO, "PNG", exif=rotated(6)),
        encoded(PHOTO, "WEBP", exif=rotated(8), lossless=True),
    ],
)
def test_what_tensorflow_reads_wrong_becomes_an_upright_png_of_the_same_pixels(data: bytes) -> None:
    image = read_image(data)
    assert image.format == "png"
    np.testing.assert_array_equal(decoded(image.encoded), expected(data))
    assert (image.height, image.width) == expected(data).shape[:2]


def test_description() -> None:
    data = encoded(Image.new("RGB", (30, 20), (0, 0, 255)), "WEBP", lossless=True)
    image = read_image(data)
    assert (image.width, image.height, image.format, image.file_format) == (30, 20, "png", "webp")
    assert image.statistics["brightness"] == pytest.approx(0.114, abs=0.003)  # ITU-R 601-2's weight of blue
    assert image.sha256 == read_image(data).sha256 != read_image(encoded(PHOTO)).sha256


def test_the_name_of_the_format_comes_from_the_content() -> None:
    assert read_image(encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO])).file_format == "mpo"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "open: the file is empty"),
        (b"GIF89a but no more", "identify: not an image"),
        (b"a text file", "identify: not an image"),
        (encoded(PHOTO, "ICO"), "identify: not an image, damaged in its header, or none of JPEG, PNG"),
        (encoded(PHOTO, "JPEG")[:-200], "decode: truncated or corrupt: image file is truncated"),
        (encoded(PHOTO)[:-200], "decode: truncated or corrupt"),
        (encoded(Image.new("F", (4, 4)), "TIFF"), "decode: 32-bit pixels have no defined black and white"),
        (encoded(Image.new("1", (70_000, 2)), "PNG"), "limits: 70000 x 2 has a side longer than 65535"),
        (encoded(Image.new("1", (9000, 9000)), "PNG"), "limits: 9000 x 9000 is more than 64 million pixels"),
        (encoded(Image.new("1", (20_000, 20_000)), "PNG"), "limits: more than 64 million pixels"),
    ],
)
def test_what_cannot_be_used_is_rejected_with_its_reason(data: bytes, words: str) -> None:
    assert words in reason(data)


def test_limits_can_be_lowered_and_raised() -> None:
    data = encoded(Image.new("1", (9000, 9000)))
    image = encoded(PHOTO)

    assert read_image(data, PictureLimits(max_megapixels=81)).width == 9000
    for limits, words in (
        (PictureLimits(max_megapixels=0.001), "limits: 40 x 30 is more than 0.001 million pixels"),
        (PictureLimits(max_file_mb=0.001), "limits: more than 0.001 MB"),
    ):
        with pytest.raises(RejectedError, match=words):
            read_image(image, limits)


def test_what_is_read_is_within_what_the_model_takes() -> None:
    """Noise, of which PNG makes the most bytes."""
    limits = PictureLimits(max_file_mb=0.05, max_megapixels=0.04)
    noise = Image.effect_noise((200, 200), 100)
    data = encoded(Image.merge("RGB", [noise] * 3), "WEBP", quality=1)

    image = read_image(data, limits)

    assert len(data) < limits.file_bytes < len(image.encoded) < limits.encoded_bytes


BOMBS = {
    "a PNG that claims 3,600 megapixels": bad_pictures.png(60_000, 60_000, b"\0" * 1000),
    "a PNG that claims 2^64 pixels": bad_pictures.png(2**32 - 1, 2**32 - 1, b"\0" * 1000),
    "a PNG of 400 megapixels in 50 kB": bad_pictures.png(20_000, 20_000, bytes(1 + 20_000 // 8) * 20_000),
    "a PNG of 100 megapixels in 12 kB": bad_pictures.png(10_000, 10_000, bytes(1 + 10_000 // 8) * 10_000),
    "a GIF that claims 4,000 megapixels": encoded(PALETTE, "GIF").replace(
        struct.pack("<HH", 40, 30), struct.pack("<HH", 65_535, 65_535)
    ),
    "a JPEG that claims 4,000 megapixels": encoded(PHOTO, "JPEG").replace(
        struct.pack(">HH", 30, 40), struct.pack(">HH", 65_535, 65_535)
    ),
    "a BMP that claims 4,000 megapixels": encoded(PHOTO, "BMP").replace(
        struct.pack("<ii", 40, 30), struct.pack("<ii", 65_535, 65_535)
    ),
    "a TIFF of 100 megapixels in 12 kB": encoded(Image.new("1", (10_000, 10_000)), "TIFF", compression="group4"),
    "a WebP that claims 268 megapixels": encoded(PHOTO, "WEBP").replace(
        b"\x9d\x01\x2a" + struct.pack("<HH", 40, 30), b"\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383)
    ),
    "a PNG with 8 GB of text": bad_pictures.png_of_texts(1000, 8_000_000),
}

_MEASURE = """
import json, resource, sys, time
from pathlib import Path
from components.ingestion.image_reading import RejectedError, statistics_of
found = {}
for path in map(Path, sys.argv[1:]):
    data, reason = path.read_bytes(), None
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        statistics_of(data)
    except RejectedError as error:
        reason = error.stage
    seconds = time.process_time() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found[path.name] = {"stage": reason, "seconds": seconds, "mb": grown}
print(json.dumps(found))
"""


def test_a_decompression_bomb_costs_milliseconds(tmp_path: Path) -> None:
    for name, data in BOMBS.items():
        (tmp_path / name).write_bytes(data)
    paths = [str(tmp_path / name) for name in ("warm", *BOMBS)]
    (tmp_path / "warm").write_bytes(encoded(PHOTO, "TIFF"))  # its first file has Pillow import its plug-ins
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *paths],
        capture_output=True, text=True, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip

    found = json.loads(done.stdout)
    del found["warm"]

    assert {cost["stage"] for cost in found.values()} == {"limits", "identify"}, found
    assert max(cost["seconds"] for cost in found.values()) < 0.05, found
    assert max(cost["mb"] for cost in found.values()) < 20, found


def test_damaged_files_are_read_or_rejected_and_never_break_tensorflow() -> None:
    dice = random.Random(1)
    kinds = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF"]
    whole = [
        encoded(PHOTO, kind, **({"exif": rotated(6)} if kind in ("JPEG", "PNG", "WEBP") else {})) for kind in kinds
    ]
    outcomes = {"read": 0, "rejected": 0}
    for turn in range(700):
        damaged = bytearray(whole[turn % len(whole)])
        for _ in range(dice.choice([1, 2, 5])):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        if turn % 3 == 0:
            del damaged[dice.randrange(len(damaged)) :]
        try:
            image = read_image(bytes(damaged))
        except RejectedError:
            outcomes["rejected"] += 1
        else:
            outcomes["read"] += 1
            assert decoded(image.encoded).shape == (image.height, image.width, 3)
    assert min(outcomes.values()) > 100


def test_every_odd_image_is_read_right_or_rejected(shared: Path) -> None:
    files = [path for path in sorted((shared / "data" / "odd_images").rglob("*")) if path.is_file()]
    assert len(files) > 90
    unreadable = set()
    for path in files:
        data = path.read_bytes()
        try:
            image = read_image(data)
        except RejectedError as error:
            unreadable.add(path.name)
            assert error.reason
            continue
        difference = np.abs(decoded(image.encoded).astype(int) - expected(data)).mean()
        assert difference <= (3 if image.format == "jpeg" else 0), path
        assert image.width * image.height <= PictureLimits().pixels
        assert for_model(data) == image.encoded
    assert {"truncated_jpeg.jpg", "truncated_image.png", "broken.png", "reallybig.bmp", "LICENSE"} <= unreadable
    assert not {path.name for path in files if path.name.startswith(("hopper.", "Landscape"))} & unreadable - {
        "hopper.ico"  # not a format of photos
    }


def test_reading_needs_neither_tfx_nor_beam() -> None:
    code = (
        "import sys, types; sys.modules['tensorflow'] = types.ModuleType('tensorflow')\n"  # its import takes 9 s
        "import components.ingestion.image_reading; print({'tfx', 'apache_beam'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = Image.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256))

    found = np.asarray(in_eight_bits(ramp))

    assert (found[0, 0], found[128, 0], found[255, 255]) == (0, 128, 255)


def test_a_file_that_the_exported_model_would_refuse_is_converted() -> None:
    read = read_image(bad_pictures.jpeg_of_scans(64, 100))

    assert (read.format, read.file_format) == ("png", "jpeg")
