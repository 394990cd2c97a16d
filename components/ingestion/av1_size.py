"""How large the images are that an AVIF's AV1 data hold, whatever its boxes say: read without decoding.

Boxes: ISO/IEC 14496-12, 8.11.3 for `iloc`. Units and sequence headers: AV1 Bitstream & Decoding Process Specification,
5.3 and 5.5.
"""

from __future__ import annotations

from collections.abc import Iterator

_MAX_UNITS = 10_000  # of all AV1 data together; an image has some three, and one for every group of its tiles
_MAX_PARTS = 10_000  # items and what they are put together from
_MAX_BOXES, _MAX_CONTAINERS = 1000, 50  # in a container; in a file
_TOO_MUCH = "more boxes or AV1 data than any good file has"
_MAX_IMAGES = 4  # times the most pixels, for all items together: color, alpha, a gain map; or a grid's cells
_OVERRIDE = 4  # times the most pixels, for what a frame may say instead of its sequence: bits are rounded up
_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf")
_SEQUENCE_HEADER = 1
_IN_FILE, _IN_IDAT = 0, 1
_FIRST_CHUNK = 8  # bytes: version, flags and count before the first entry of `stco`


class _Bits:
    """Numbers out of bytes, highest bit first."""

    def __init__(self, data: memoryview, byte: int = 0) -> None:
        self._data, self._place = data, 8 * byte

    def take(self, count: int) -> int:
        """The next `count` bits. Raises ValueError if there are fewer."""
        end = self._place + count
        if end > 8 * len(self._data):
            raise ValueError("its AV1 data or boxes end too early")
        first, last = self._place // 8, -(-end // 8)
        self._place = end
        return int.from_bytes(self._data[first:last], "big") >> (8 * last - end) & ((1 << count) - 1)


def largest(data: bytes, pixels: int) -> tuple[int, int]:
    """Width and height of the largest image in a file, or of the first found that has more than `pixels`.

    Raises:
        ValueError: what leads to the sizes is damaged, or there is more of it than in any good file.
    """
    found, units, together, read = (0, 0), 0, 0, 0
    for stream in _streams(memoryview(data)):
        read += len(stream)
        here = (0, 0)
        for kind, payload in _units(stream):
            units += 1
            if kind == _SEQUENCE_HEADER:
                here = max(here, _size(_Bits(payload), pixels), key=_area)
            if units > _MAX_UNITS or read > len(data):
                raise ValueError(_TOO_MUCH)
        together += _area(here)
        found = max(found, here, key=_area)
        if _area(found) > pixels:
            return found
        if together > _MAX_IMAGES * pixels:
            raise ValueError(f"images of more than {_MAX_IMAGES} times the pixels allowed")
    return found


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of one box after the other."""
    place, number = 0, 0
    while place + 8 <= len(data):
        number += 1
        if number > _MAX_BOXES:
            raise ValueError(_TOO_MUCH)
        box = _Bits(data, place)
        size, kind, head = box.take(32), bytes(data[place + 4 : place + 8]), 8
        if size == 1:
            size, head = box.take(64), 16
        size = size or len(data) - place
        if not head <= size <= len(data) - place:
            raise ValueError("a box is longer than what holds it")
        yield kind, data[place + head : place + size]
        place += size


def _streams(file: memoryview) -> Iterator[memoryview]:
    """The data of every item, and of every track's first sample: one image each."""
    waiting, opened = [file], 0
    while waiting:
        opened += 1
        if opened > _MAX_CONTAINERS:
            raise ValueError(_TOO_MUCH)
        for kind, content in _boxes(waiting.pop()):
            if kind in _CONTAINERS:
                waiting.append(content)
            elif kind == b"meta":
                within = list(_boxes(content[4:]))
                idat = next((inner for name, inner in within if name == b"idat"), content[:0])
                for name, inner in within:
                    if name == b"iloc":
                        yield from _items(_Bits(inner), file, idat)
            elif kind == b"stbl":
                tables = {b"stsz": content[:0], **dict(_boxes(content))}
                for name, bits in ((b"stco", 32), (b"co64", 64)):
                    if name in tables:
                        place = _Bits(tables[name], _FIRST_CHUNK).take(bits)
                        sizes = _Bits(tables[b"stsz"], 4)
                        same_for_all, _ = sizes.take(32), sizes.take(32)
                        yield file[place : place + (same_for_all or sizes.take(32))]


def _items(iloc: _Bits, file: memoryview, idat: memoryview) -> Iterator[memoryview]:
    version = iloc.take(32) >> 24
    offset, length, base, index = (8 * iloc.take(4) for _ in range(4))
    long = 16 if version < 2 else 32
    parts = 0
    for _ in range(iloc.take(long)):
        iloc.take(long)
        method = iloc.take(16) & 15 if version else _IN_FILE
        if method not in (_IN_FILE, _IN_IDAT):
            raise ValueError("an item is made of other items' data")
        source = file if method == _IN_FILE else idat
        iloc.take(16)
        begin, number, extents = iloc.take(base), iloc.take(16), []
        parts += 1 + number
        if parts > _MAX_PARTS:
            raise ValueError(_TOO_MUCH)
        for _ in range(number):
            iloc.take(index if version else 0)
            start, size = begin + iloc.take(offset), iloc.take(length)
            extents.append(source[start : start + size if size else None])
        if sum(map(len, extents)) > len(file):
            raise ValueError(_TOO_MUCH)
        yield extents[0] if len(extents) == 1 else memoryview(b"".join(extents))


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


def _size(header: _Bits, pixels: int) -> tuple[int, int]:
    """The most width and height of a sequence's frames."""
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


def _pass_operating_points(header: _Bits) -> None:
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
