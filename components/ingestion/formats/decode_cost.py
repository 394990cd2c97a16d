"""What makes a small file expensive to decode although its header claims little: found in its bytes, undecoded."""

from __future__ import annotations

import struct

from PIL import JpegImagePlugin

from components.ingestion.formats import av1_size, hevc_size, tiff_directory
from core.image_limits import MAX_JPEG_SCANS, MAX_PNG_TEXTS, ImageLimits

_TILE_WIDTH, _TILE_LENGTH = 322, 323
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_MAX_PNG_CHUNKS = 50_000  # Pillow takes microseconds for each
_START_OF_SCAN = 0xFFDA
_MAX_JPEG_SEGMENTS = 2000  # before the first scan
_MAX_EXIF = 2**20  # bytes
_GIF_FRAME, _GIF_EXTENSION, _GIF_END = b",!;"
# Up to the second frame:
_MAX_GIF_EXTENSIONS = 1000  # the exported model goes over as many
_MAX_GIF_BLOCKS = 300_000  # of at most 255 bytes, so 73 MB
_MAX_GIF_COMMENTS = 2**20  # bytes


def excess(data: bytes, limits: ImageLimits) -> str:
    """What exceeds the limits; empty if nothing does.

    Each of a JPEG's scans is a pass over all its pixels. Each of a PNG's compressed texts takes up to 1 MB in Pillow
    and 8 MB in libpng. Pillow joins a GIF's comments and a JPEG's EXIF segments in time quadratic in their bytes.
    libtiff allocates an entire tile, and a decoder of AV1 or HEVC the sizes in that stream's own headers.

    Raises:
        ValueError or IndexError: the file is damaged where it says so.
    """
    most = f"more than {limits.max_megapixels:g} million pixels"
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg_problem(data)
    if data.startswith(_PNG_MAGIC):
        return _png_problem(data)
    if data.startswith(b"GIF8"):
        return _gif_problem(data)
    if data.startswith(tiff_directory.MAGIC):
        width, height = _tile(data)
        return f"a tile of {width} x {height} is {most}" if width * height > limits.pixels else ""
    if hevc_size.is_heif(data):
        return f"its HEVC data are {most}" if hevc_size.exceeds(data, limits.pixels) else ""
    if data[4:8] == b"ftyp":
        width, height = av1_size.largest(data, limits.pixels)
        return f"{width} x {height}, as its AV1 data say, is {most}" if width * height > limits.pixels else ""
    return ""


def _jpeg_problem(data: bytes) -> str:
    if data.count(b"\xff\xda\0") > MAX_JPEG_SCANS:  # start of scan, whose header is shorter than 256 bytes
        return f"more than {MAX_JPEG_SCANS} scans"
    place, segments, exif = 2, 0, 0
    while place + 4 <= len(data) and segments <= _MAX_JPEG_SEGMENTS and exif <= _MAX_EXIF:
        marker, length = struct.unpack_from(">HH", data, place)
        if marker == _START_OF_SCAN:
            return ""
        segments += 1
        if marker >> 8 < 0xFF or marker == 0xFFFF:  # Pillow skips bytes that are no marker, one by one
            place += 1
        elif JpegImagePlugin.MARKER.get(marker, (None,))[-1] is None:
            place += 2
        else:
            exif += length if data.startswith(b"Exif\0\0", place + 4) else 0
            place += 2 + length
    many = segments > _MAX_JPEG_SEGMENTS or exif > _MAX_EXIF
    return "more segments or EXIF than any good JPEG has" if many else ""


def _png_problem(data: bytes) -> str:
    texts = sum(map(data.count, (b"zTXt", b"iTXt", b"iCCP")))
    if texts > MAX_PNG_TEXTS:
        return f"more than {MAX_PNG_TEXTS} texts that may be compressed"
    place, chunks = len(_PNG_MAGIC), 0
    while place + 8 <= len(data) and chunks <= _MAX_PNG_CHUNKS:
        place += 12 + int.from_bytes(data[place : place + 4], "big")
        chunks += 1
    return f"more than {_MAX_PNG_CHUNKS:,} chunks" if chunks > _MAX_PNG_CHUNKS else ""


def _gif_problem(data: bytes) -> str:
    """Checks everything up to the second frame, which Pillow looks for (GIF89a specification, 15-27)."""
    place, frames, extensions, blocks, comments = 13 + _color_table(data[10]), 0, 0, 0, 0
    while place < len(data) and frames < 2 and data[place] != _GIF_END:
        begin, kind = place, data[place]
        if kind == _GIF_FRAME:
            frames += 1
            place += 11 + (_color_table(data[place + 9]) if place + 9 < len(data) else 0)
        else:
            extensions += 1
            place += 2 if kind == _GIF_EXTENSION else 1  # Pillow skips what is neither
        if kind in (_GIF_FRAME, _GIF_EXTENSION):
            while place < len(data) and data[place] and blocks <= _MAX_GIF_BLOCKS:
                place += 1 + data[place]
                blocks += 1
            place += 1
        comments += place - begin if kind == _GIF_EXTENSION else 0
        if extensions > _MAX_GIF_EXTENSIONS or blocks > _MAX_GIF_BLOCKS or comments > _MAX_GIF_COMMENTS:
            return "more comments or blocks than any good GIF has"
    return ""


def _color_table(flags: int) -> int:
    """Bytes of a GIF's color table."""
    return 3 * 2 << (flags & 7) if flags & 128 else 0


def _tile(data: bytes) -> tuple[int, int]:
    """Sides of the first page's tiles; 0 if it has strips, which libtiff cuts off at the image's end (TIFF 6, 2)."""
    tags = tiff_directory.read(data)
    width, height = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0)
    if width is None or height is None:
        raise ValueError("the sides of its tiles are no numbers")
    return width, height
