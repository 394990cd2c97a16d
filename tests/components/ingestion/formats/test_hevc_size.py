"""HEICs: their pixels, what may be in them, and what decoding them may cost.

The files in `heic/` show red, green, blue and gray, 32 or 64 pixels wide and 32 high, and were made once with
pillow-heif 1.8.1 (whose x265 nothing here brings), quality 90. The others are put together here.
"""

import io
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from components.ingestion.formats import hevc_size
from components.ingestion.image_reading import RejectedError, for_model, read_image
from core.image_limits import ImageLimits
from trainer.images import decoding

FILES = {path.stem: path.read_bytes() for path in sorted(Path(__file__).with_name("heic").glob("*.heic"))}
RED, GREEN, BLUE, GRAY = [200, 30, 30], [30, 200, 30], [30, 30, 200], [220, 220, 220]


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def between(data: bytes, kind: bytes) -> bytes:
    """The content of the first box of that kind."""
    place = data.index(kind)
    return data[place + 4 : place - 4 + int.from_bytes(data[place - 4 : place], "big")]


CONFIGURATION = between(FILES["rgb"], b"hvcC")
CODED = between(FILES["rgb"], b"mdat")


def heic(
    items: list[tuple[bytes, bytes]], made_of: dict[int, list[int]], primary: int, size: tuple[int, int] = (96, 64)
) -> bytes:
    """Items of kind and data, numbered from 1, of which some are made of others."""
    entries = b"".join(
        box(b"infe", struct.pack(">IHH4s", 2 << 24, number, 0, kind) + b"\0")
        for number, (kind, _) in enumerate(items, 1)
    )
    references = b"".join(
        box(b"dimg", struct.pack(f">HH{len(parts)}H", number, len(parts), *parts)) for number, parts in made_of.items()
    )
    sizes = box(b"ispe", struct.pack(">III", 0, *size)) + box(b"ispe", struct.pack(">III", 0, 96, 64))
    properties = box(b"ipco", box(b"hvcC", CONFIGURATION) + sizes)
    owners = b"".join(
        struct.pack(">HBBB", number, 2, 1, 3) if kind == b"hvc1" else struct.pack(">HBB", number, 1, 2)
        for number, (kind, _) in enumerate(items, 1)
    )
    properties += box(b"ipma", struct.pack(">II", 0, len(items)) + owners)

    def whole(begin: int) -> bytes:
        places = b""
        for number, (_, data) in enumerate(items, 1):
            places += struct.pack(">HHHII", number, 0, 1, begin, len(data))
            begin += len(data)
        meta = (
            box(b"hdlr", struct.pack(">II4s12x", 0, 0, b"pict") + b"\0")
            + box(b"pitm", struct.pack(">IH", 0, primary))
            + box(b"iloc", struct.pack(">IHH", 0, 0x4400, len(items)) + places)
            + box(b"iinf", struct.pack(">IH", 0, len(items)) + entries)
            + (box(b"iref", bytes(4) + references) if made_of else b"")
            + box(b"iprp", properties)
        )
        return box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"meta", bytes(4) + meta)

    return whole(len(whole(0)) + 8) + box(b"mdat", b"".join(data for _, data in items))


def grid(rows: int, columns: int, width: int, height: int) -> bytes:
    return struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, width, height)


def seen(data: bytes) -> np.ndarray:
    return decoding.decode_upright(tf.constant(for_model(data))).numpy()


def corners(pixels: np.ndarray) -> list[np.ndarray]:
    """The middles of the four corners, clockwise."""
    return [pixels[8, 8], pixels[8, -8], pixels[-8, -8], pixels[-8, 8]]


@pytest.mark.parametrize(
    ("name", "size", "colors"),
    [
        ("rgb", (96, 64), [RED, GREEN, GRAY, BLUE]),
        ("ten_bits", (96, 64), [RED, GREEN, GRAY, BLUE]),
        ("two", (96, 64), [RED, GREEN, GRAY, BLUE]),
        ("turned", (64, 96), [BLUE, RED, GREEN, GRAY]),
        ("alpha", (96, 64), [[255] * 3, GREEN, [237] * 3, BLUE]),
        ("gray", (96, 64), [[81] * 3, [130] * 3, [220] * 3, [49] * 3]),
    ],
)
def test_a_heic_has_its_pixels_upright_and_on_white(name: str, size: tuple[int, int], colors: list[list[int]]) -> None:
    image = read_image(FILES[name])

    assert (image.format, image.file_format, (image.width, image.height)) == ("png", "heif", size)
    assert image.encoded == for_model(FILES[name])
    np.testing.assert_allclose(corners(seen(FILES[name]).astype(int)), colors, atol=3)


def test_a_turn_in_its_exif_does_not_turn_it_again() -> None:
    """Phones write both; libheif heeds `irot`, which is what counts (ISO/IEC 23008-12, A.2.1)."""
    begin = FILES["turned"].index(b"MM\0*") if b"MM\0*" in FILES["turned"] else FILES["turned"].index(b"II*\0")
    little = FILES["turned"][begin : begin + 2] == b"II"
    entry = FILES["turned"].index(struct.pack(f"{'<' if little else '>'}HHI", 0x0112, 3, 1), begin) + 8
    turned = bytearray(FILES["turned"])
    turned[entry : entry + 2] = struct.pack("<H" if little else ">H", 6)

    assert read_image(bytes(turned)).pixels == read_image(FILES["turned"]).pixels


def test_tiles_as_phones_write_them_make_one_image() -> None:
    items = [(b"hvc1", CODED)] * 4 + [(b"grid", grid(2, 2, 192, 120))]
    data = heic(items, {5: [1, 2, 3, 4]}, 5, (192, 120))

    image = read_image(data)

    assert (image.width, image.height) == (192, 120)
    np.testing.assert_allclose(corners(seen(data)[:64, 96:].astype(int)), [RED, GREEN, GRAY, BLUE], atol=3)


def test_pillow_reads_what_it_read_before() -> None:
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(io.BytesIO(FILES["rgb"]))


def test_a_heic_may_have_the_pixels_allowed_and_no_more() -> None:
    assert read_image(FILES["alpha"], ImageLimits(max_megapixels=0.0062)).width == 96
    with pytest.raises(RejectedError, match=r"limits: 96 x 64 is more than 0\.006 million pixels"):
        read_image(FILES["rgb"], ImageLimits(max_megapixels=0.006))


def sequence(width: int, height: int, layers: int = 0, of_layers: str = "") -> bytes:
    """A unit of sequence parameters, of 4:2:0 and 8 bits, as far as these."""

    def golomb(value: int) -> str:
        bits = f"{value + 1:b}"
        return "0" * (len(bits) - 1) + bits

    bits = f"0000{layers:03b}1" + "1" * 96 + of_layers + golomb(0) + golomb(1) + golomb(width) + golomb(height)
    bits += "0" + golomb(0) + golomb(0)
    bits += "0" * (-len(bits) % 8)
    return b"\x42\1" + int(bits, 2).to_bytes(len(bits) // 8, "big")


def unit(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


HUGE = unit(sequence(30_000, 30_000))
BOMBS = {
    "claims 96 x 64, its data 900 megapixels": heic([(b"hvc1", HUGE + CODED)], {}, 1),
    "30,000 times the same tile": heic(
        [(b"hvc1", unit(sequence(2000, 2000)) + CODED), (b"grid", grid(150, 200, 96, 64))], {2: [1] * 30_000}, 2
    ),
    "a canvas of 900 megapixels": heic([(b"hvc1", CODED), (b"grid", grid(1, 1, 30_000, 30_000))], {2: [1]}, 2),
    "made of itself": heic([(b"grid", grid(1, 1, 96, 64))], {1: [1]}, 1),
    "made of what is made of it": heic([(b"iden", b"-"), (b"iden", b"-")], {1: [2] * 200, 2: [1] * 200}, 1),
    "1,000 pictures in one": heic([(b"hvc1", CODED * 1000)], {}, 1),
    "1,000 slices": heic([(b"hvc1", CODED + unit(b"\x02\1\x7f") * 1000)], {}, 1),
    "50,000 units": heic([(b"hvc1", CODED + unit(b"\x4e\1\5") * 50_000)], {}, 1),
    "a million references": heic([(b"hvc1", CODED)], {1: [1] * 60_000}, 1),
    "no parameters": heic([(b"hvc1", unit(b"\x28\1\xaf"))], {}, 1).replace(CONFIGURATION, bytes(len(CONFIGURATION))),
    "no data": heic([(b"hvc1", b"")], {}, 1),
    "of JPEG": heic([(b"jpeg", CODED)], {}, 1),
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_what_would_cost_too_much_is_never_decoded(name: str) -> None:
    began = time.process_time()
    with pytest.raises(RejectedError) as error:
        for_model(BOMBS[name])
    assert time.process_time() - began < 0.05
    assert error.value.stage in ("identify", "limits")
    assert "HEIC" in error.value.reason or "HEVC" in error.value.reason


@pytest.mark.parametrize(("layers", "extra"), [(0, ""), (2, "11" + "01" + "00" * 6 + "1" * 96 + "1" * 8)])
def test_sizes_are_found_behind_what_comes_before_them(layers: int, extra: str) -> None:
    for side, much in ((9000, True), (8000, False)):
        data = heic([(b"hvc1", unit(sequence(side, side, layers, extra)) + CODED)], {}, 1)
        assert hevc_size.exceeds(data, 64_000_000) == much


def configured(data: bytes, place: int, value: int) -> bytes:
    """The file with another byte at a place of its configuration."""
    place += data.index(b"hvcC") + 4
    return data[:place] + bytes([value]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"mdat", bytes(8)), "it has no list of images"),
        (FILES["rgb"][:-20], "its image data are truncated"),
        (FILES["rgb"][:200], "a box is longer than what holds it"),
        (FILES["rgb"].replace(b"iprp", b"iprq"), "it has no iprp box"),
        (BOMBS["of JPEG"], "its images are 'jpeg', and only those of HEVC"),
        (
            FILES["turned"].replace(b"Exif", b"Exi\xb3", 1),
            "an item's type or name is no text",
        ),  # this and the next two ended the process
        (configured(FILES["gray"], 17, 0xF9), "its colors and bits are not those that its configuration"),
        (configured(FILES["gray"], 17, 0xFC), "its colors and bits are not those that its configuration"),
        (configured(FILES["rgb"], 16, 0xFC), "its colors and bits are not those that its configuration"),
    ],
)
def test_a_broken_heic_is_called_one_with_what_is_wrong(data: bytes, words: str) -> None:
    with pytest.raises(RejectedError) as error:
        read_image(data)
    assert error.value.reason.startswith("a HEIC that is damaged or cut off: ")
    assert words in error.value.reason


@pytest.mark.parametrize(
    ("brands", "heif"),
    [
        (b"heic\0\0\0\0mif1", True),
        (b"mif1\0\0\0\0heic", True),
        (b"mif1\0\0\0\0avif", False),
        (b"avif\0\0\0\0mif1", False),
    ],
)
def test_avif_is_left_to_pillow(brands: bytes, heif: bool) -> None:
    assert hevc_size.is_heif(box(b"ftyp", brands)) == heif
