"""Images no good client sends: broken ones, and ones that ask for more memory or time than they look."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(kind: str, *, side: int = 40, seed: int = 0, mode: str = "RGB", **options: object) -> bytes:
    """A noisy image in a file of that format."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *, before: bytes = b"") -> bytes:
    """A black and white PNG that claims `width` x `height`; `before` goes between its header and its pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + png_chunk(b"IEND", b"")


def png_of_texts(texts: int, size: int) -> bytes:
    """A image of 8 x 8 pixels whose text chunks decompress to `texts` times `size` bytes."""
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * size, 9))
    return png(8, 8, b"\0\0" * 8, before=text * texts)


def jpeg_of_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG that repeats its last scan."""
    whole = encoded("JPEG", side=side, progressive=True, quality=5)
    begin = whole.rindex(b"\xff\xda")
    return whole[:begin] + whole[begin:-2] * scans + whole[-2:]


def tiff(
    width: int, height: int, pixels: bytes, tags: dict[int, int], twice: tuple[tuple[int, int], ...] = ()
) -> bytes:
    """A gray TIFF of one strip or tile; `tags` are values besides the least there are, `twice` more behind them.

    Its pixels are deflated, of 8 bits, and 0 is black, unless `tags` say otherwise.
    """
    data = zlib.compress(pixels, 9)
    least = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1}
    tiled = 322 in tags
    told = [*sorted((least | {324 if tiled else 273: 0, 325 if tiled else 279: len(data)} | tags).items()), *twice]
    head = b"II*\0" + struct.pack("<IH", 8, len(told))
    begin = len(head) + 12 * len(told) + 4
    entries = (struct.pack("<HHII", tag, 4, 1, begin if tag in (273, 324) else value) for tag, value in told)
    return head + b"".join(entries) + bytes(4) + data


def gif_of_frames(side: int, frames: int) -> bytes:
    """An animation whose first frame is white; those behind it are black."""
    white, black = Image.new("P", (side, side), 1), Image.new("P", (side, side), 0)
    for image in (white, black):
        image.putpalette([0, 0, 0, 255, 255, 255])
    one = [_gif(image) for image in (white, black)]
    first, rest = one[0], one[1][one[1].index(b",\0\0\0\0") : -1]
    return first[:-1] + rest * frames + b";"


def _gif(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "GIF", optimize=False)
    return buffer.getvalue()
