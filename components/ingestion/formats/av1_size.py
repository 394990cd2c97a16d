"""How large the images in an AVIF's AV1 data really are, whatever its boxes say: read without decoding.

Units and sequence headers: AV1 Bitstream & Decoding Process Specification, 5.3 and 5.5.
"""

from __future__ import annotations

from collections.abc import Iterator

from components.ingestion.formats.iso_media import TOO_MUCH, Bits, boxes, items

_MAX_UNITS = 10_000  # of all AV1 data together; an image has about three, plus one for every group of its tiles
_MAX_CONTAINERS = 50  # in a file
_MAX_IMAGES = 4  # times the most pixels, for all items together: color, alpha, a gain map; or a grid's cells
_OVERRIDE = 4  # times the most pixels, for what a frame may say instead of its sequence: bits are rounded up
_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf")
_SEQUENCE_HEADER = 1
_FIRST_CHUNK = 8  # bytes: version, flags and count before the first entry of `stco`


def largest(data: bytes, pixels: int) -> tuple[int, int]:
    """Width and height of the largest image in a file, or of the first found that has more than `pixels`.

    Raises:
        ValueError: the data that lead to the sizes are damaged, or more than in any good file.
    """
    found, units, together, read = (0, 0), 0, 0, 0
    for stream in _streams(memoryview(data)):
        read += len(stream)
        here = (0, 0)
        for kind, payload in _units(stream):
            units += 1
            if kind == _SEQUENCE_HEADER:
                here = max(here, _size(Bits(payload), pixels), key=_area)
            if units > _MAX_UNITS or read > len(data):
                raise ValueError(TOO_MUCH)
        together += _area(here)
        found = max(found, here, key=_area)
        if _area(found) > pixels:
            return found
        if together > _MAX_IMAGES * pixels:
            raise ValueError(f"images of more than {_MAX_IMAGES} times the pixels allowed")
    return found


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _streams(file: memoryview) -> Iterator[memoryview]:
    """The data of every item, and of every track's first sample: one image each."""
    waiting, opened = [file], 0
    while waiting:
        opened += 1
        if opened > _MAX_CONTAINERS:
            raise ValueError(TOO_MUCH)
        for kind, content in boxes(waiting.pop()):
            if kind in _CONTAINERS:
                waiting.append(content)
            elif kind == b"meta":
                within = list(boxes(content[4:]))
                idat = next((inner for name, inner in within if name == b"idat"), content[:0])
                for name, inner in within:
                    if name == b"iloc":
                        yield from (data for _, data in items(Bits(inner), file, idat))
            elif kind == b"stbl":
                tables = {b"stsz": content[:0], **dict(boxes(content))}
                for name, bits in ((b"stco", 32), (b"co64", 64)):
                    if name in tables:
                        place = Bits(tables[name], _FIRST_CHUNK).take(bits)
                        sizes = Bits(tables[b"stsz"], 4)
                        same_for_all, _ = sizes.take(32), sizes.take(32)
                        yield file[place : place + (same_for_all or sizes.take(32))]


def _units(stream: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and payload of the open bitstream units."""
    place = 0
    while place < len(stream):
        head = stream[place]
        place += 2 if head & 4 else 1
        size = len(stream) - place
        if head & 2:
            size, shift = 0, 0
            while place < len(stream):
                octet = stream[place]
                place += 1
                size |= (octet & 127) << shift
                shift += 7
                if octet < 128 or shift == 56:
                    break
        yield head >> 3 & 15, stream[place : place + size]
        place += size


def _size(header: Bits, pixels: int) -> tuple[int, int]:
    """The maximum width and height of a sequence's frames."""
    take = header.take
    take(4)  # seq_profile, still_picture
    reduced = take(1)
    if reduced:
        take(5)
    else:
        _pass_operating_points(header)
    width_bits, height_bits = take(4) + 1, take(4) + 1
    size = take(width_bits) + 1, take(height_bits) + 1
    of_a_frame = 1 << width_bits, 1 << height_bits
    return size if reduced or _area(of_a_frame) <= _OVERRIDE * pixels else of_a_frame


def _pass_operating_points(header: Bits) -> None:
    """From timing_info_present_flag to the last seq_tier, or what follows it."""
    take = header.take
    delay_bits = 0
    if take(1):  # timing_info
        take(64)
        if take(1):
            zeros = 0
            while not take(1):
                zeros += 1
            take(zeros)
        if take(1):  # decoder_model_info
            delay_bits = take(5) + 1
            take(42)
    delays_present = take(1)
    for _ in range(take(5) + 1):
        take(12)
        if take(5) > 7:
            take(1)
        if delay_bits and take(1):
            take(2 * delay_bits + 1)
        if delays_present and take(1):
            take(4)
