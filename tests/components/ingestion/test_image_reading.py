import hashlib
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageCms, ImageOps

from components.ingestion import image_statistics, near_duplicates
from components.ingestion.image_reading import (
    RejectedError,
    for_model,
    in_eight_bits,
    read_image,
    statistics_of,
    upright,
)
from core.image_limits import MAX_JPEG_SCANS, MAX_PNG_TEXTS, ImageLimits, Transparent
from tests.components.conftest import detailed, encoded, picture
from tests.components.ingestion.formats import test_hevc_size
from tests.conftest import ROOT
from tests.trainer.images import bad_images
from trainer.images import decoding

ORIENTATION = 0x0112
PHOTO = picture(1, 40, 30)
PALETTE = PHOTO.convert("P")
GRAY_16 = Image.fromarray(np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32))


def _transparent() -> dict[str, tuple[bytes, np.ndarray]]:
    """Files, and their RGBA pixels, of all ways to be transparent."""
    dice = np.random.default_rng(0)
    rgba = dice.integers(0, 256, (30, 40, 4), dtype=np.uint8)
    gray = np.concatenate([np.repeat(rgba[..., :1], 3, axis=2), rgba[..., 3:]], axis=2)
    binary = rgba.copy()
    binary[..., 3] = np.where(binary[..., 3] > 100, 255, 0)
    picture, levels = Image.fromarray(rgba), Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    keyed = np.repeat(np.asarray(levels)[..., None], 4, axis=2)
    keyed[..., 3] = np.where(np.asarray(levels) == 77, 0, 255)
    palette = Image.fromarray(rgba[..., 0] % 4, "P")
    palette.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0, 90, 90, 90])
    of_palette = np.concatenate(
        [np.asarray(palette.convert("RGB")), np.array([0, 50, 255, 128], np.uint8)[rgba[..., 0] % 4][..., None]], axis=2
    )
    two = np.arange(4, dtype=np.uint8).repeat(16).reshape(8, 8)
    deep = dice.integers(0, 65536, (8, 8, 4), dtype=np.uint16)
    deep[2, 2, :3] = (1000, 2000, 3000)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    colors = b"".join(b"\0" + row[:, :3].astype(">u2").tobytes() for row in deep)
    gray_16 = b"".join(b"\0" + row[:, 0].astype(">u2").tobytes() for row in deep)
    gray_2 = b"".join(b"\0" + bytes([0x55 * row[0], 0x55 * row[0]]) for row in two)
    upper = (deep >> 8).astype(np.uint8)

    def key(*values: int) -> bytes:
        return bad_images.png_chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))

    def with_key(of: np.ndarray, key: np.ndarray) -> np.ndarray:
        return np.concatenate([of, np.where(key, 0, 255).astype(np.uint8)[..., None]], axis=2)

    return {
        "PNG, RGBA": (encoded(picture), rgba),
        "PNG, LA": (encoded(Image.merge("LA", [Image.fromarray(rgba[..., 0]), Image.fromarray(rgba[..., 3])])), gray),
        "PNG, P and tRNS": (encoded(palette, transparency=bytes([0, 50, 255, 128])), of_palette),
        "PNG, L and tRNS": (encoded(levels, transparency=77), keyed),
        "PNG, RGB and tRNS": (encoded(Image.merge("RGB", [levels] * 3), transparency=(77, 77, 77)), keyed),
        "PNG, 2 bits and tRNS": (
            png_of(8, 8, 2, 0, gray_2, key(2)),
            with_key(np.repeat((two * 85)[..., None], 3, 2), two == 2),
        ),
        "PNG, 16 bits, RGBA": (png_of(8, 8, 16, 6, rows), upper),
        "PNG, 16 bits, RGB and tRNS": (
            png_of(8, 8, 16, 2, colors, key(1000, 2000, 3000)),
            with_key(upper[..., :3], (deep[..., :3] == (1000, 2000, 3000)).all(-1)),
        ),
        "PNG, 16 bits, L and tRNS": (
            png_of(8, 8, 16, 0, gray_16, key(1000)),
            with_key(np.repeat(upper[..., :1], 3, 2), deep[..., 0] == 1000),
        ),
        "WebP": (encoded(picture, "WEBP", lossless=True, exact=True), rgba),
        "TIFF": (encoded(picture, "TIFF"), rgba),
        "GIF": (
            encoded(palette, "GIF", transparency=0),
            np.concatenate([of_palette[..., :3], np.where(rgba[..., :1] % 4 == 0, 0, 255).astype(np.uint8)], axis=2),
        ),
    }


def png_of(width: int, height: int, depth: int, kind: int, rows: bytes, before: bytes = b"") -> bytes:
    header = bad_images.png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    pixels = bad_images.png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + bad_images.png_chunk(b"IEND", b"")


TRANSPARENT = _transparent()


def pgm(values: np.ndarray) -> bytes:
    """A PGM or PPM of 16 bits."""
    kind = 5 if values.ndim == 2 else 6
    return b"P%d %d %d 65535\n" % (kind, values.shape[1], values.shape[0]) + values.astype(">u2").tobytes()


def decoded(data: bytes) -> np.ndarray:
    """What the pipeline's graph sees."""
    return decoding.decode_upright(tf.constant(data)).numpy()


def expected(data: bytes) -> np.ndarray:
    """What a person sees: Pillow's pixels, upright, on white."""
    with Image.open(io.BytesIO(data)) as image:
        turned = ImageOps.exif_transpose(image)
        if turned.mode.startswith("I"):
            return np.repeat((np.asarray(turned) // 256).astype(np.uint8)[:, :, None], 3, axis=2)
        layers = np.asarray(turned.convert("RGBA"), np.float64)
        opacity = layers[..., 3:] / 255
        return np.rint(layers[..., :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)


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
        (encoded(GRAY_16), "png"),
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
    turned = Image.fromarray(expected(data))

    image = read_image(data)

    assert (image.width, image.height) == turned.size
    assert image.pixels == hashlib.sha256(b"%d %d " % turned.size + turned.tobytes()).hexdigest()
    assert image.statistics == image_statistics.measure(image_statistics.reduced(np.asarray(turned)))
    assert image.likeness == near_duplicates.describe(turned)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("RGB", {}),
        ("RGB", {"progressive": True}),
        ("RGB", {"subsampling": 0}),
        ("RGB", {"subsampling": 1, "quality": 100}),
        ("RGB", {"quality": 3}),
        ("RGB", {"keep_rgb": True}),
        ("RGB", {"restart_marker_blocks": 2}),
        ("RGB", {"exif": rotated(7)}),
        ("L", {}),
        ("L", {"progressive": True}),
        ("CMYK", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "plain",
)
def test_a_jpeg_has_the_pixels_that_pillow_shows_whoever_decodes_it(kind: str, options: dict[str, object]) -> None:
    """So a PNG of a JPEG is known as its duplicate."""
    data = encoded(detailed(1).resize((203, 177)).convert(kind), "JPEG", **options)
    shown = upright(Image.open(io.BytesIO(data)))

    image = read_image(data)

    assert image.encoded == data
    assert image.pixels == read_image(encoded(shown)).pixels
    assert image.likeness == read_image(encoded(shown)).likeness


def test_files_are_read_by_threads_at_the_same_time() -> None:
    """The first of them make the graph, in which TensorFlow crashes if two do."""
    code = (
        "import sys\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "from components.ingestion.image_reading import read_image\n"
        "data = sys.stdin.buffer.read()\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    print({image.pixels for image in pool.map(read_image, [data] * 64)})"
    )
    data = encoded(PHOTO, "JPEG")
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout.decode().strip() == repr({read_image(data).pixels})


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
        encoded(GRAY_16, "TIFF"),
        encoded(PHOTO.convert("P"), "BMP"),  # TensorFlow takes palette indices for gray.
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


def test_an_image_is_described_by_size_formats_statistics_and_hash() -> None:
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
        (bytes([200, 3, 250]), "identify: not an image, damaged in its header, or none of JPEG, PNG"),
        (b"a text file", "identify: not an image but a text"),
        (encoded(PHOTO, "ICO"), "identify: an icon (ICO): save it as PNG or JPEG"),
        (encoded(PHOTO, "JPEG")[:-200], "decode: truncated or corrupt: image file is truncated"),
        (encoded(PHOTO)[:-200], "decode: truncated or corrupt"),
        (encoded(Image.new("F", (4, 4)), "TIFF"), "decode: 32-bit pixels have no defined black and white"),
        (
            bad_images.tiff(4, 4, bytes(208), {277: 13}),
            "identify: a TIFF with pixels of a kind that is not read (13 channels)",
        ),
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

    assert read_image(data, ImageLimits(max_megapixels=81)).width == 9000
    for limits, words in (
        (ImageLimits(max_megapixels=0.001), "limits: 40 x 30 is more than 0.001 million pixels"),
        (ImageLimits(max_file_mb=0.001), "limits: more than 0.001 MB"),
    ):
        with pytest.raises(RejectedError, match=words):
            read_image(image, limits)


def test_what_is_read_is_within_what_the_model_takes() -> None:
    """Noise, of which PNG makes the most bytes."""
    limits = ImageLimits(max_file_mb=0.05, max_megapixels=0.04)
    noise = Image.effect_noise((200, 200), 100)
    data = encoded(Image.merge("RGB", [noise] * 3), "WEBP", quality=1)

    image = read_image(data, limits)

    assert len(data) < limits.file_bytes < len(image.encoded) < limits.encoded_bytes


def jpeg_with(segment: bytes, times: int) -> bytes:
    """A JPEG with more before its tables."""
    data = encoded(PHOTO, "JPEG")
    return data[:2] + segment * times + data[2:]


def gif_with(blocks: bytes) -> bytes:
    """A GIF with more before its frame."""
    data = encoded(PALETTE, "GIF")
    frame = data.index(b",\0\0\0\0")
    return data[:frame] + blocks + data[frame:]


def avif_that_claims(side: int, data: bytes) -> bytes:
    """The file with other sizes in all its boxes; those in its AV1 data stay."""
    for layout in (">II", ">HH"):
        data = data.replace(struct.pack(layout, 8100, 8100), struct.pack(layout, side, side))
    return data.replace(struct.pack(">II", 8100 << 16, 8100 << 16), struct.pack(">II", side << 16, side << 16))


BOMBS = {
    "a PNG that claims 3,600 megapixels": bad_images.png(60_000, 60_000, b"\0" * 1000),
    "a PNG that claims 2^64 pixels": bad_images.png(2**32 - 1, 2**32 - 1, b"\0" * 1000),
    "a PNG of 400 megapixels in 50 kB": bad_images.png(20_000, 20_000, bytes(1 + 20_000 // 8) * 20_000),
    "a PNG of 100 megapixels in 12 kB": bad_images.png(10_000, 10_000, bytes(1 + 10_000 // 8) * 10_000),
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
    "a PNG with 8 GB of text": bad_images.png_of_texts(1000, 8_000_000),
    "a PNG with 60 MB of text": bad_images.png_of_texts(60, 2**20),
    "a JPEG of 200,000 EXIF segments": jpeg_with(b"\xff\xe1\0\x10Exif\0\0" + bytes(8), 200_000),
    "a JPEG of 200 EXIF segments of 64 kB": jpeg_with(b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527), 200),
    "a JPEG of a million comments": jpeg_with(b"\xff\xfe\0\2", 10**6),
    "a JPEG of a million bytes between segments": jpeg_with(b"\xff\xfe\0\2" + b"\1" * 1000, 1000),
    "a JPEG whose segments are in one that Pillow does not know": jpeg_with(
        b"\xff\xc8\xff\xff" + b"\xff\xfe\0\2" * 16_000, 10
    ),
    "a GIF of 5 MB of comment": gif_with(b"\x21\xfe" + b"\xff" * 256 * 20_000 + b"\0"),
    "a GIF of 2 million comments": gif_with(b"\x21\xfe\x01a\0" * 2_000_000),
    "a GIF of as many behind its frame": encoded(PALETTE, "GIF")[:-1] + b"\x21\xfe\x01a\0" * 2_000_000 + b";",
    "a GIF of 20 million bytes between blocks": gif_with(bytes(20_000_000)),
    "a JPEG of 200 scans": bad_images.jpeg_of_scans(1000, 200),
    "an MPO of 200 scans": bad_images.jpeg_of_scans(400, 100) * 2,
    "a TIFF of 256 pixels with a tile of 400 megapixels": bad_images.tiff(
        16, 16, bytes(20_000**2), {322: 20_000, 323: 20_000}
    ),
    "a TIFF of whose tags Pillow takes the last, libtiff the first": bad_images.tiff(
        16, 16, bytes(20_000**2), {322: 20_000, 323: 20_000}, twice=((322, 16), (323, 16))
    ),
    "an AVIF that claims 4096 pixels of 66 million": avif_that_claims(
        64, encoded(Image.new("L", (8100, 8100)), "AVIF", speed=10)
    ),
    "an AVIF animation that claims as little": avif_that_claims(
        64,
        encoded(
            Image.new("L", (8100, 8100)), "AVIF", speed=10, save_all=True, append_images=[Image.new("L", (8100, 8100))]
        ),
    ),
}

BOMBS |= {f"a HEIC of {name}": data for name, data in test_hevc_size.BOMBS.items()}
BOMBS |= {
    "a PPM that claims 3,600 megapixels": b"P6 60000 60000 255\n" + bytes(1000),
    "a PGM of 20 MB of comments": b"P5" + b"#\n" * 10**7,
}


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"exif": b"Exif\0\0MM\0*"}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(2600, 1950), (1301, 700), (300, 200)])
def test_statistics_of_a_jpeg_at_a_fraction_of_its_size_are_those_of_the_whole(
    size: tuple[int, int], mode: str, options: dict[str, Any]
) -> None:
    grain = Image.fromarray(np.random.RandomState(1).randint(0, 255, (120, 160, 3)).astype(np.uint8))
    data = encoded(grain.resize(size, Image.Resampling.BICUBIC).convert(mode), "JPEG", **options)

    found = statistics_of(data)

    assert found == pytest.approx(read_image(data).statistics, rel=0.05, abs=0.01)
    assert found["resolution"] == read_image(data).statistics["resolution"]


def test_statistics_of_a_jpeg_without_an_end_are_measured_and_of_half_a_jpeg_are_not() -> None:
    data = encoded(detailed(1, 1400, 1200), "JPEG")

    assert statistics_of(data[:-2]) == pytest.approx(read_image(data).statistics, rel=0.03)
    with pytest.raises(RejectedError, match="truncated"):
        statistics_of(data[: len(data) // 2])


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


SAYS_WHAT_IS_WRONG = re.compile(
    r"(open: the file is empty"
    r"|identify: (not an image, damaged in its header, or none of JPEG, .*|damaged in its header: .+)"
    r"|identify: (a HEIC that is damaged or cut off: .+|an? .+: .+|not an image but .+|nothing but zeros.*)"
    r"|limits: (\d+ x \d+.* is more than .*|a tile of .*|.*more than .*|more .* than any good .*|.* longer than .*)"
    r"|limits: its HEVC data are more than .*"
    r"|decode: ((a HEIC, )?truncated or corrupt: .+|.* pixels have no defined black and white; save it with .*))",
    re.DOTALL,
)


def test_damaged_files_are_read_or_rejected_and_never_break_tensorflow() -> None:
    dice = random.Random(1)
    kinds = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "PPM"]
    whole = [
        encoded(PHOTO, kind, **({"exif": rotated(6)} if kind in ("JPEG", "PNG", "WEBP") else {})) for kind in kinds
    ]
    whole += [path.read_bytes() for path in sorted((Path(__file__).with_name("formats") / "heic").glob("*.heic"))]
    outcomes = {"read": 0, "rejected": 0}
    for turn in range(900):
        damaged = bytearray(whole[turn % len(whole)])
        for _ in range(dice.choice([1, 2, 5])):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        if turn % 3 == 0:
            del damaged[dice.randrange(len(damaged)) :]
        try:
            image = read_image(bytes(damaged))
        except RejectedError as error:
            outcomes["rejected"] += 1
            assert SAYS_WHAT_IS_WRONG.fullmatch(str(error)), error
        else:
            outcomes["read"] += 1
            assert decoded(image.encoded).shape == (image.height, image.width, 3)
    assert min(outcomes.values()) > 100


def test_every_odd_image_is_read_right_or_rejected_for_its_reason(shared: Path) -> None:
    """`odd_images.json`: how the reasons begin; format, width, height and mean red, green and blue."""
    folder = shared / "data" / "odd_images"
    wanted = json.loads(Path(__file__).with_name("odd_images.json").read_text())
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(files) > 80
    read_image(encoded(PHOTO, "TIFF"))  # imports TensorFlow and Pillow's plug-ins
    rejected, read = {}, {}
    for path in files:
        name, data, began = str(path.relative_to(folder)), path.read_bytes(), time.process_time()
        try:
            image = read_image(data)
        except RejectedError as error:
            rejected[name] = str(error)
            continue
        assert time.process_time() - began < 2, name  # two megapixels take 0.2
        pixels = decoded(image.encoded)
        whole = image.encoded if "no_end" in image.oddities else data
        difference = np.abs(pixels.astype(int) - expected(whole)).mean()
        assert difference <= (3 if image.format == "jpeg" else 0), name
        assert for_model(data) == image.encoded
        read[name] = [image.format, image.width, image.height, pytest.approx(pixels.mean((0, 1)), abs=1)]
    assert read == wanted["read"]
    assert rejected.keys() == wanted["rejected"].keys()
    assert not {name: words for name, words in rejected.items() if not words.startswith(wanted["rejected"][name])}


def test_reading_needs_neither_tfx_nor_beam() -> None:
    code = (
        "import sys, types; sys.modules['tensorflow'] = types.ModuleType('tensorflow')\n"  # its import takes 9 s
        "import components.ingestion.image_reading; print({'tfx', 'apache_beam'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("pixels", "tags", "gray"),
    [
        (bytes.fromhex("000064800fff"), {258: 12}, [0, 6, 128, 255]),
        (struct.pack("<4H", 0, 255, 32768, 65535), {258: 16}, [0, 0, 128, 255]),
        (struct.pack("<4H", 0, 255, 32768, 65535), {258: 16, 262: 0}, [255, 255, 127, 0]),
        (bytes([0, 1, 128, 255]), {258: 8, 262: 0}, [255, 254, 127, 0]),
    ],
    ids=["12 bits", "16 bits", "16 bits, 0 is white", "8 bits, 0 is white"],
)
def test_a_tiff_of_any_bits_has_its_black_and_white_where_it_says(
    pixels: bytes, tags: dict[int, int], gray: list[int]
) -> None:
    image = read_image(bad_images.tiff(4, 1, pixels, tags))
    assert decoded(image.encoded)[0].tolist() == [[level] * 3 for level in gray]


@pytest.mark.parametrize(
    ("bits", "sample_format", "kind"), [(16, 2, "signed"), (32, 2, "signed"), (32, 1, "32-bit"), (32, 3, "32-bit")]
)
def test_a_tiff_whose_black_and_white_nobody_knows_is_rejected(bits: int, sample_format: int, kind: str) -> None:
    data = bad_images.tiff(4, 1, bytes(bits // 2), {258: bits, 339: sample_format})
    assert reason(data) == (
        f"decode: {kind} pixels have no defined black and white; save it with 8 or 16 bits, unsigned"
    )


def built_png(kind: int, rows: bytes, *, before: bytes = b"", interlaced: int = 0) -> bytes:
    """8 bits, 2 x 2 pixels, or of 8 x 8 if they are interlaced; `kind` is the color type (PNG specification, 11.2)."""
    side = 8 if interlaced else 2
    header = bad_images.png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, kind, 0, 0, interlaced))
    pixels = bad_images.png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + bad_images.png_chunk(b"IEND", b"")


def test_an_interlaced_png_is_read_pass_by_pass() -> None:
    """Adam7 (PNG specification, 8.2)."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    gray = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
    rows = b"".join(b"\0" + row.tobytes() for top, left, down, right in passes for row in gray[top::down, left::right])
    data = built_png(0, rows, interlaced=1)

    image = read_image(data)

    assert image.encoded == data
    np.testing.assert_array_equal(decoded(data), np.repeat(gray[:, :, None], 3, axis=2))


def test_transparent_pixels_are_laid_on_the_background_that_is_set() -> None:
    palette = bad_images.png_chunk(b"PLTE", bytes([200, 10, 20, 0, 0, 255]))
    transparent = bad_images.png_chunk(b"tRNS", bytes([0, 128]))
    of_palette = built_png(3, b"\0\0\1" + b"\0\1\0", before=palette + transparent)
    gray_and_alpha = built_png(4, bytes([0, 200, 0, 100, 128, 0, 0, 255, 255, 0]))
    red, blue, bluish, dark = [200, 10, 20], [0, 0, 255], [127, 127, 255], [0, 0, 128]
    white, black = [255] * 3, [0] * 3
    cases: dict[Transparent, list[tuple[bytes, list[list[list[int]]]]]] = {
        "white": [
            (of_palette, [[white, bluish], [bluish, white]]),
            (gray_and_alpha, [[white, [177] * 3], [black, white]]),
        ],
        "black": [
            (of_palette, [[black, dark], [dark, black]]),
            (gray_and_alpha, [[black, [50] * 3], [black, black]]),
        ],
        "drop": [(of_palette, [[red, blue], [blue, red]]), (gray_and_alpha, [[[200] * 3, [100] * 3], [black, white]])],
    }
    for kind, files in cases.items():
        for data, pixels in files:
            image = read_image(data, ImageLimits(transparent=kind))
            assert image.encoded == data
            assert decoding.decode_upright(tf.constant(data), kind).numpy().tolist() == pixels
            shown = upright(Image.open(io.BytesIO(data)), ImageLimits(transparent=kind))
            assert np.asarray(shown.convert("RGB")).tolist() == pixels


@pytest.mark.parametrize("transparent", ["white", "black", "drop"])
@pytest.mark.parametrize("name", sorted(TRANSPARENT))
def test_whatever_holds_the_alpha_the_pixels_are_the_same_everywhere(name: str, transparent: Transparent) -> None:
    data, layers = TRANSPARENT[name]
    colors, opacity = layers[..., :3].astype(float), layers[..., 3:] / 255
    background = 255 if transparent == "white" else 0
    laid = colors if transparent == "drop" else np.rint(colors * opacity + background * (1 - opacity))

    image = read_image(data, ImageLimits(transparent=transparent))

    seen = decoding.decode_upright(tf.constant(image.encoded), transparent).numpy()
    np.testing.assert_array_equal(seen, laid)
    plain = Image.fromarray(laid.astype(np.uint8))
    assert image.pixels == read_image(encoded(plain)).pixels
    assert image.statistics == read_image(encoded(plain)).statistics
    assert image.likeness == read_image(encoded(plain)).likeness


def test_a_picture_that_is_all_transparent_is_remarked() -> None:
    hidden = PHOTO.convert("RGBA")
    hidden.putalpha(0)

    assert read_image(encoded(hidden)).oddities == {"invisible": 1}
    assert read_image(encoded(hidden), ImageLimits(transparent="drop")).oddities == {}
    assert read_image(encoded(PHOTO.convert("RGBA"))).oddities == {}


def test_a_color_profile_changes_no_pixel() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for kind in ("PNG", "TIFF"):
        image = read_image(encoded(PHOTO, kind, icc_profile=profile))
        np.testing.assert_array_equal(decoded(image.encoded), np.asarray(PHOTO))


@pytest.mark.parametrize("bits", [9, 10, 12, 14])
def test_what_a_sensor_leaves_unused_is_remarked_and_stretched_where_that_is_set(bits: int) -> None:
    """The same pixels from every file, and from the graph that serves."""
    values = np.linspace(0, 2**bits - 1, 256).astype(np.uint16).reshape(16, 16)
    colors = np.stack([values, values // 2, values[::-1]], axis=-1)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colors)
    gray = [encoded(Image.fromarray(values)), encoded(Image.fromarray(values), "TIFF")]
    files = [
        *((data, np.repeat(values[..., None], 3, axis=2)) for data in [*gray, pgm(values)]),
        (png_of(16, 16, 16, 2, rows), colors),
        (pgm(colors), colors),
    ]
    stretched = ImageLimits(stretch=bits)

    for data, deep in files:
        assert read_image(data).oddities == {"few_bits": bits}
        np.testing.assert_array_equal(decoded(read_image(data).encoded), deep >> 8)
        image = read_image(data, stretched)
        assert image.oddities == {}
        np.testing.assert_array_equal(decoded(image.encoded), deep >> bits - 8)
        assert for_model(data, stretched) == image.encoded
        if data.startswith(b"\x89PNG"):
            seen = decoding.decode_upright(tf.constant(data), "white", bits).numpy()
            np.testing.assert_array_equal(seen, deep >> bits - 8)


def test_images_that_use_more_bits_than_the_setting_says_are_read_as_before() -> None:
    ramp = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    for data in (encoded(Image.fromarray(ramp)), encoded(Image.fromarray(ramp), "TIFF"), pgm(ramp)):
        image = read_image(data, ImageLimits(stretch=12))
        assert image.oddities == {"more_bits": 16}
        np.testing.assert_array_equal(decoded(image.encoded)[..., 0], ramp >> 8)
        assert read_image(data).oddities == {}
    seen = decoding.decode_upright(tf.constant(encoded(Image.fromarray(ramp))), "white", 12).numpy()
    np.testing.assert_array_equal(seen[..., 0], ramp >> 8)


def test_eight_bits_are_never_stretched() -> None:
    dark = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    for kind in ("PNG", "TIFF", "PPM"):
        image = read_image(encoded(dark, kind), ImageLimits(stretch=12))
        assert image.oddities == {}
        np.testing.assert_array_equal(decoded(image.encoded)[..., 0], np.asarray(dark))


def test_colors_that_cannot_be_stretched_are_rejected_and_not_black(shared: Path) -> None:
    data = (shared / "data" / "odd_images" / "pillow" / "tiff_16bit_RGB.tiff").read_bytes()
    assert read_image(data).oddities == {}
    assert read_image(data, ImageLimits(stretch=12)).oddities == {"more_bits": 16}
    dark = bad_images.tiff(2, 1, struct.pack("<6H", 1, 2, 3, 400, 500, 1000), {258: 16, 262: 2, 277: 3})
    with pytest.raises(RejectedError, match="decode: colors of 16 bits are stretched only in PNG and PPM"):
        read_image(dark, ImageLimits(stretch=12))


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = Image.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256))

    found = np.asarray(in_eight_bits(ramp))

    assert (found[0, 0], found[128, 0], found[255, 255]) == (0, 128, 255)


def test_a_jpeg_has_as_many_scans_as_the_exported_model_decodes() -> None:
    scans = bad_images.jpeg_of_scans(64, 1).count(b"\xff\xda")
    most = bad_images.jpeg_of_scans(64, MAX_JPEG_SCANS - scans + 1)

    assert read_image(most).file_format == "jpeg"
    assert reason(bad_images.jpeg_of_scans(64, MAX_JPEG_SCANS - scans + 2)) == "limits: more than 64 scans"


def test_a_png_has_as_many_compressed_texts_as_the_exported_model_decodes() -> None:
    assert read_image(bad_images.png_of_texts(MAX_PNG_TEXTS, 100)).format == "png"
    assert (
        reason(bad_images.png_of_texts(MAX_PNG_TEXTS + 1, 100)) == "limits: more than 16 texts that may be compressed"
    )


def test_a_jpeg_and_a_png_have_so_many_segments_and_no_more() -> None:
    comment, exif = b"\xff\xfe\0\2", b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527)
    for data in (jpeg_with(comment, 1900), jpeg_with(exif, 16)):
        assert read_image(data).file_format == "jpeg"
    for data in (jpeg_with(comment, 2001), jpeg_with(exif, 17)):
        assert reason(data) == "limits: more segments or EXIF than any good JPEG has"
    chunk = bad_images.png_chunk(b"teXt", b"")
    assert read_image(bad_images.png(8, 8, b"\0\0" * 8, before=chunk * 49_000)).width == 8
    many = bad_images.png(8, 8, b"\0\0" * 8, before=chunk * 50_000)
    assert reason(many) == "limits: more than 50,000 chunks"


@pytest.mark.parametrize(
    "blocks",
    [
        b"\x21\xfe\x01a\0" * 1001,
        b"\x21\xfe" + b"\xff" * 256 * 4097 + b"\0",
        b",\0\0\0\0\1\0\1\0\0\2" + b"\1\1" * 300_001 + b"\0",
        bytes(1001),
    ],
    ids=["extensions", "a long comment", "a frame in small blocks", "no blocks"],
)
def test_a_gif_has_so_much_beside_its_picture_and_no_more(blocks: bytes) -> None:
    assert reason(gif_with(blocks)) == "limits: more comments or blocks than any good GIF has"


def test_a_gif_with_comments_is_read() -> None:
    comments = gif_with((b"\x21\xfe" + b"\xff" * 256 * 4 + b"\0") * 999)
    for data in (comments, comments[:-1], comments + b"beyond"):
        assert read_image(data).width == 40


def test_a_tiff_may_have_fewer_rows_than_its_strip_or_tile_and_no_tag_twice() -> None:
    pixels = np.arange(256, dtype=np.uint8)
    for tags in ({278: 2**32 - 1}, {322: 16, 323: 16}):
        image = read_image(bad_images.tiff(16, 16, pixels.tobytes(), tags))
        np.testing.assert_array_equal(decoded(image.encoded)[:, :, 0], pixels.reshape(16, 16))
    assert reason(BOMBS["a TIFF of 256 pixels with a tile of 400 megapixels"]) == (
        "limits: a tile of 20000 x 20000 is more than 64 million pixels"
    )
    twice = bad_images.tiff(16, 16, pixels.tobytes(), {278: 16}, twice=((256, 16),))
    assert reason(twice) == "identify: damaged in its header: tag 256 is there twice"


@pytest.mark.parametrize("kind", [{}, {"codec": "aom"}, {"save_all": True, "append_images": [PHOTO.convert("RGBA")]}])
def test_an_avif_may_have_the_pixels_allowed_and_no_more(kind: dict[str, object]) -> None:
    data = encoded(PHOTO.convert("RGBA"), "AVIF", **kind)

    assert read_image(data, ImageLimits(max_megapixels=0.0012)).width == 40
    with pytest.raises(RejectedError, match="limits: 40 x 30, as its AV1 data say, is more than"):
        read_image(data, ImageLimits(max_megapixels=0.00119))
