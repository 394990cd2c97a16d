"""The first directory of a TIFF: its tags, read without decoding (TIFF 6.0, section 2; BigTIFF of libtiff 4)."""

from __future__ import annotations

import struct

MAGIC = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # types: BYTE, SHORT, LONG, LONG8


def read(data: bytes) -> dict[int, int | None]:
    """The first number of each tag, or None where that is no unsigned integer or is not stored beside the tag.

    Raises:
        ValueError: the directory is not in the file, or has a tag twice: libtiff takes the first, Pillow the last.
    """
    order, big = "<" if data.startswith(b"II") else ">", data[2] == 43
    if data[3] == 43:
        raise ValueError("a BigTIFF with its highest bytes first")  # which Pillow takes for a TIFF
    number, size, room = ("Q", 20, 8) if big else ("H", 12, 4)
    tags: dict[int, int | None] = {}
    try:
        (start,) = struct.unpack_from(f"{order}Q", data, 8) if big else struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(order + number, data, start)
        start += struct.calcsize(number)
        for place in range(start, start + count * size, size):
            tag, kind = struct.unpack_from(f"{order}HH", data, place)
            (values,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, place + 4)
            if tag in tags:
                raise ValueError(f"tag {tag} is there twice")
            form = order + _FORMATS.get(kind, "")
            fits = len(form) > 1 and struct.calcsize(form) * values <= room
            tags[tag] = struct.unpack_from(form, data, place + size - room)[0] if fits else None
    except (struct.error, OverflowError) as error:
        raise ValueError("its directory is not in the file") from error
    return tags
