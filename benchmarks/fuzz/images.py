"""Image files that ingestion reads: every format, with bytes, TIFF's tags and AVIF's and HEIC's boxes changed."""

from __future__ import annotations

import functools
import io
import random
import struct
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from benchmarks.fuzz.mutations import NUMBERS, mutated
from benchmarks.fuzz.target import Target, check_message
from components.ingestion.image_reading import RejectedError, read_image
from core.image_limits import ImageLimits
from trainer.images import decoding

LIMITS = ImageLimits(max_megapixels=4)
"""Low, so that an input that gets round them shows."""

KINDS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("RGB", "JPEG", {}),
    ("RGB", "JPEG", {"progressive": True}),
    ("L", "JPEG", {"quality": 40}),
    ("CMYK", "JPEG", {}),
    ("RGB", "MPO", {}),
    ("RGB", "PNG", {}),
    ("RGBA", "PNG", {}),
    ("LA", "PNG", {}),
    ("P", "PNG", {"transparency": 0}),
    ("1", "PNG", {}),
    ("I;16", "PNG", {}),
    ("P", "GIF", {"comment": b"words" * 100}),
    ("P", "GIF", {"transparency": 0}),
    ("RGB", "BMP", {}),
    ("P", "BMP", {}),
    ("RGBA", "WEBP", {}),
    ("RGB", "WEBP", {"lossless": True}),
    ("RGB", "TIFF", {}),
    ("I;16", "TIFF", {}),
    ("1", "TIFF", {"compression": "group4"}),
    ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    ("RGB", "TIFF", {"compression": "jpeg"}),
    ("L", "TIFF", {"compression": "tiff_adobe_deflate", "tiffinfo": {322: 64, 323: 64}}),
    ("RGB", "AVIF", {"speed": 10}),
    ("RGBA", "AVIF", {"speed": 10}),
    ("RGB", "PPM", {}),
    ("1", "PPM", {}),
    ("I;16", "PPM", {}),
)
"""Modes, formats and options of Pillow."""

_TURNED = ("JPEG", "PNG", "WEBP", "AVIF")  # by their EXIF
_BOXES = (b"ispe", b"iloc", b"ipma", b"av1C", b"hvcC", b"pixi", b"mdat", b"meta", b"iinf", b"iref", b"irot", b"auxC")
_TAGS = (256, 257, 258, 259, 262, 277, 278, 322, 323, 339)
_HEICS = (
    Path(__file__).parents[2] / "tests" / "components" / "ingestion" / "formats" / "heic"
)  # nothing here encodes HEVC


@functools.cache
def files() -> list[bytes]:
    """A noisy image of every kind, some turned by EXIF, and animations."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((80, 60))
    deep = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    found = []
    for mode, kind, options in KINDS:
        turned = {"exif": exif} if kind in _TURNED else {}
        target = io.BytesIO()
        (deep if mode == "I;16" else image.convert(mode)).save(target, kind, **options, **turned)
        found.append(target.getvalue())
    for kind in ("GIF", "WEBP", "AVIF", "MPO", "TIFF", "PNG"):
        target = io.BytesIO()
        image.save(target, kind, save_all=True, append_images=[image.rotate(180)])
        found.append(target.getvalue())
    heics = sorted(_HEICS.glob("*.heic"))
    assert heics, f"there are no HEICs in {_HEICS}"
    return found + [path.read_bytes() for path in heics]


def served() -> list[bytes]:
    """Those that an exported model reads."""
    return [data for data in files() if data.startswith((b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM"))]


def changed(chance: random.Random) -> bytes:
    """One of `files`, changed."""
    return mutated(files(), chance, special=(_change_tag, _change_box))


def _change_tag(data: bytearray, chance: random.Random) -> None:
    """Gives one of a TIFF's tags another value, or makes it another tag."""
    if data[:4] != b"II*\0" or len(data) < 8:
        return
    (start,) = struct.unpack_from("<I", data, 4)
    if start + 2 > len(data):
        return
    (count,) = struct.unpack_from("<H", data, start)
    entry = start + 2 + 12 * chance.randrange(count + 1)
    if chance.random() < 0.2:
        data[entry : entry + 2] = struct.pack("<H", chance.choice(_TAGS))
    else:
        data[entry + 8 : entry + 12] = struct.pack("<I", chance.choice((*NUMBERS, chance.randrange(2**32))))


def _change_box(data: bytearray, chance: random.Random) -> None:
    """Overwrites four bytes of an AVIF's or HEIC's box, its length included."""
    begin = data.find(chance.choice(_BOXES))
    if data[4:8] == b"ftyp" and begin >= 4:
        place = begin - 4 + chance.randrange(32)
        data[place : place + 4] = struct.pack(">I", chance.choice((*NUMBERS, chance.randrange(2**32))))


class Images(Target):
    """`read_image`; what it reads is decoded by TensorFlow, to the size that is recorded."""

    name = "images"

    def __init__(self) -> None:
        signature = [tf.TensorSpec([], tf.string)]
        self._decode = tf.function(decoding.decode_upright, input_signature=signature, autograph=False)

    def seeds(self) -> list[bytes]:
        return files()

    def make(self, chance: random.Random) -> bytes:
        return changed(chance)

    def attempt(self, data: bytes) -> str:
        try:
            image = read_image(data, LIMITS)
        except RejectedError as error:
            check_message(error.reason)
            return f"rejected: {error.stage}"
        shape = self._decode(tf.constant(image.encoded)).shape
        assert shape == (image.height, image.width, 3), f"TensorFlow decodes {shape}"
        return "read"
