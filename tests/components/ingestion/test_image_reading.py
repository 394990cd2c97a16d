import io
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from components.ingestion import image_reading
from components.ingestion.image_reading import RejectedError, in_eight_bits, read_image
from tests.components.conftest import encoded, picture
from tests.trainer import bad_pictures
from trainer import tolerant_decoding

ORIENTATION = 0x0112
PHOTO = picture(1, 40, 30)
PALETTE = PHOTO.convert("P")
GREY_16 = Image.fromarray(np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32))


def decoded(data: bytes) -> np.ndarray:
    """What the pipeline's graph sees."""
    return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()


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
        (encoded(PHOTO, "JPEG", exif=rotated(1)), "jpeg"),
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
        *(encoded(PHOTO, "JPEG", exif=rotated(orientation)) for orientation in range(2, 9)),
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


def test_files_over_the_limit_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_reading, "MAX_FILE_BYTES", 100)
    assert reason(encoded(PHOTO)).startswith("limits: more than")


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
        assert image.width * image.height <= image_reading.MAX_PIXELS
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
    assert image_reading.MAX_PIXELS == tolerant_decoding.MAX_PIXELS
