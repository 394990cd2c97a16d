"""Fuzzes ingestion's reader: files of every format, made by Pillow, with their bytes, tags and boxes changed.

    python benchmarks/fuzz_ingestion.py --seconds 180 --seed 1

Every input must be read, and then decoded by TensorFlow to the size that is recorded, or rejected with a reason, within
`MAX_SECONDS` of CPU time and `MAX_MB` more of memory at its peak. A crash or a hang ends this process, so run it as
one. Prints a JSON object: `inputs`, how many were `read` and how many rejected at which stage, `seconds`, the `slowest`
input in CPU seconds, and by how many MB memory has grown.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import random
import struct
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from PIL import Image

from components.ingestion.image_reading import RejectedError, read_image
from components.serving.serving_checks import peak_rss_mb
from core.image_limits import ImageLimits
from trainer.images import decoding

LIMITS = ImageLimits(max_megapixels=4)
"""Low, so that an input that gets round them shows."""

MAX_SECONDS = 3.0
"""CPU time of one input; 4 megapixels as a PNG take half a second."""

MAX_MB = 300
"""By which one input may raise the peak of memory."""

KINDS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("RGB", "JPEG", {}),
    ("RGB", "JPEG", {"progressive": True}),
    ("CMYK", "JPEG", {}),
    ("RGB", "MPO", {}),
    ("RGB", "PNG", {}),
    ("LA", "PNG", {}),
    ("P", "PNG", {"transparency": 0}),
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

_NUMBERS = (0, 1, 2, 255, 256, 32767, 65535, 2**20, 2**31 - 1, 2**32 - 1)
_BOXES = (b"ispe", b"iloc", b"ipma", b"av1C", b"hvcC", b"pixi", b"mdat", b"meta", b"iinf", b"iref", b"irot", b"auxC")
_HEICS = Path(__file__).parents[1] / "tests" / "components" / "ingestion" / "heic"  # nothing here encodes HEVC


def seeds() -> list[bytes]:
    """A noisy image of every kind, turned by EXIF in some, and animations."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((80, 60))
    found = []
    for mode, kind, options in KINDS:
        deep = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "AVIF") else {}
        target = io.BytesIO()
        (deep if mode == "I;16" else image.convert(mode)).save(target, kind, **options, **turned)
        found.append(target.getvalue())
    for kind in ("GIF", "WEBP", "AVIF", "MPO", "TIFF", "PNG"):
        target = io.BytesIO()
        image.save(target, kind, save_all=True, append_images=[image.rotate(180)])
        found.append(target.getvalue())
    return found + [path.read_bytes() for path in sorted(_HEICS.glob("*.heic"))]


SEEDS = seeds()


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A seed with one to four changes."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    chance = random.Random(draw(st.integers(0, 2**64)))
    for change in draw(st.lists(st.integers(0, 7), min_size=1, max_size=4)):
        place = chance.randrange(len(data) + 1)
        near = chance.randrange(min(len(data), 300) + 1)  # where headers are
        number = chance.choice((*_NUMBERS, chance.randrange(2**32)))
        if change == 0:
            del data[place:]
        elif change == 1 and data:
            data[place % len(data)] ^= 1 << chance.randrange(8)
        elif change == 2:
            data[near : near + 4] = struct.pack(chance.choice("<>") + "I", number)
        elif change == 3:
            data[near : near + 2] = struct.pack(chance.choice("<>") + "H", number & 65535)
        elif change == 4:
            data[place:place] = data[near : near + chance.randrange(1, 2000)] * chance.choice((1, 1, 50))
        elif change == 5:
            _change_tag(data, chance, number)
        elif change == 6:
            _change_box(data, chance, number)
        else:
            other = chance.choice(SEEDS)
            data[place:] = other[chance.randrange(len(other)) :]
    return bytes(data)


def _change_tag(data: bytearray, chance: random.Random, number: int) -> None:
    """Gives one of a TIFF's tags another value, or makes it another tag."""
    if data[:4] != b"II*\0" or len(data) < 8:
        return
    (start,) = struct.unpack_from("<I", data, 4)
    if start + 2 > len(data):
        return
    (count,) = struct.unpack_from("<H", data, start)
    entry = start + 2 + 12 * chance.randrange(count + 1)
    if chance.random() < 0.2:
        data[entry : entry + 2] = struct.pack("<H", chance.choice((256, 257, 258, 259, 262, 277, 278, 322, 323, 339)))
    else:
        data[entry + 8 : entry + 12] = struct.pack("<I", number)


def _change_box(data: bytearray, chance: random.Random, number: int) -> None:
    """Overwrites four bytes of an AVIF's or HEIC's box, its length included."""
    begin = data.find(chance.choice(_BOXES))
    if data[4:8] == b"ftyp" and begin >= 4:
        place = begin - 4 + chance.randrange(32)
        data[place : place + 4] = struct.pack(">I", number)


def fuzz(seconds: float, seed: int) -> dict[str, object]:
    """Reads changed files for so long.

    Raises:
        AssertionError: an input was neither read right nor rejected with a reason, or took too much.
    """
    outcomes: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    for data in SEEDS:  # imports TensorFlow and Pillow's plug-ins
        read_image(data, LIMITS)

    def read(data: bytes) -> None:
        nonlocal slowest
        began, before = time.process_time(), peak_rss_mb()
        try:
            image = read_image(data, LIMITS)
        except RejectedError as error:
            assert len(error.reason.rstrip(": ").split()) > 2, f"rejected without a reason: {error}"
            outcomes[error.stage] += 1
        else:
            shape = decoding.decode_upright(tf.constant(image.encoded)).shape
            assert shape == (image.height, image.width, 3), f"TensorFlow decodes {shape}"
            outcomes["read"] += 1
        took, grown = time.process_time() - began, peak_rss_mb() - before
        slowest = max(slowest, took)
        assert took < MAX_SECONDS, f"{took:.1f} CPU seconds"
        assert grown < MAX_MB, f"{grown:.0f} MB"

    before, start, turn = peak_rss_mb(), time.monotonic(), 0
    while time.monotonic() - start < seconds:
        turn += 1
        run = given(files())(read)
        run = settings(
            max_examples=500, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(run)  # fmt: skip
        seeded(f"{seed} {turn}")(run)()
    inputs = outcomes.total()
    return {
        "inputs": inputs,
        "read": outcomes.pop("read", 0),
        "rejected": dict(outcomes),
        "seconds": round(time.monotonic() - start, 1),
        "slowest": round(slowest, 2),
        "grown_mb": round(peak_rss_mb() - before),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(json.dumps(fuzz(options.seconds, options.seed)))


if __name__ == "__main__":
    main()
