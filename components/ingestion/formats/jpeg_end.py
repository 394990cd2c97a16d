"""JPEGs that lack their end marker and nothing else, as some cameras and interrupted programs write them.

libjpeg fills whatever is missing with gray, and says so only in a warning that neither Pillow nor TensorFlow shows. So
this module finds out whether pixels are missing: bytes appended to complete data change nothing; otherwise they do.
"""

from __future__ import annotations

import hashlib
import io
import struct

from PIL import Image

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_SCAN, _LAST_SCAN = 0xDA, b"\xff\xda"
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive, as TensorFlow reads them
_FILLERS = (b"\x55" * 64, b"\xaa" * 64, b"\x00\x37" * 32)
_COEFFICIENTS = 64


def with_end(data: bytes) -> bytes | None:
    """The file with an end marker; None if it is no JPEG, already has one after its last scan, or lacks more."""
    if not data.startswith(_START) or data.endswith(_END) or _END in data[data.rfind(_LAST_SCAN) :]:
        return None
    body = data[:-1] if data.endswith(b"\xff") else data
    try:
        if not _has_all_scans(body):
            return None
        shown = _pixels(body + _END)
        whole = all(_pixels(body + filler + _END) == shown for filler in _FILLERS)
    except (OSError, SyntaxError, ValueError, LookupError, struct.error):
        return None
    return body + _END if whole else None


def _pixels(data: bytes) -> bytes:
    """Their hash."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        return hashlib.sha256(image.tobytes()).digest()


def _has_all_scans(data: bytes) -> bool:
    """Whether every coefficient of every component is in a scan, to its last bit (ITU-T T.81, B.2.3 and G.1.1.1)."""
    place, components = 2, -1
    complete: set[tuple[int, int]] = set()
    while place + 4 <= len(data):
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place] != 0xFF or marker == 0xFF:  # what a scan codes, or padding
            place = data.find(b"\xff", place + 1)
            if place < 0:
                break
            continue
        if marker == 0 or 0xD0 <= marker <= 0xD7:
            place += 2
            continue
        if marker in _FRAMES:
            components = data[place + 9]
        elif marker == _SCAN:
            count = data[place + 4]
            first, last, bits = data[place + 5 + 2 * count : place + 8 + 2 * count]
            if bits & 15 == 0:
                named = data[place + 5 : place + 5 + 2 * count : 2]
                complete.update((name, number) for name in named for number in range(first, last + 1))
        place += 2 + length
    return components > 0 and len(complete) == components * _COEFFICIENTS
