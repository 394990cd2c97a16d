"""ISO's base media files, the containers of AVIF, HEIF and video, read without decoding (ISO/IEC 14496-12).

Every length in a file is checked: ValueError is raised for what is damaged, or more than any good file has.
"""

from __future__ import annotations

from collections.abc import Iterator

TOO_MUCH = "more boxes or coded data than any good file has"
_MAX_PARTS = 10_000  # items and their extents
_IN_FILE, _IN_IDAT = 0, 1


class Bits:
    """Reads numbers from bytes, highest bit first."""

    def __init__(self, data: memoryview, byte: int = 0) -> None:
        self._data, self._place = data, 8 * byte

    def take(self, count: int) -> int:
        """The next `count` bits. Raises ValueError if there are fewer."""
        end = self._place + count
        if end > 8 * len(self._data):
            raise ValueError("its coded data or boxes end too early")
        first, last = self._place // 8, -(-end // 8)
        self._place = end
        return int.from_bytes(self._data[first:last], "big") >> (8 * last - end) & ((1 << count) - 1)


def boxes(data: memoryview, most: int = 1000) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of one box after the other, of which there may be so many."""
    place, number = 0, 0
    while place + 8 <= len(data):
        number += 1
        if number > most:
            raise ValueError(TOO_MUCH)
        box = Bits(data, place)
        size, kind, head = box.take(32), bytes(data[place + 4 : place + 8]), 8
        if size == 1:
            size, head = box.take(64), 16
        size = size or len(data) - place
        if not head <= size <= len(data) - place:
            raise ValueError("a box is longer than what holds it")
        yield kind, data[place + head : place + size]
        place += size


def items(iloc: Bits, file: memoryview, idat: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and data of every item that `iloc` lists (8.11.3)."""
    version = iloc.take(32) >> 24
    offset, length, base, index = (8 * iloc.take(4) for _ in range(4))
    long = 16 if version < 2 else 32
    parts = 0
    for _ in range(iloc.take(long)):
        item = iloc.take(long)
        method = iloc.take(16) & 15 if version else _IN_FILE
        if method not in (_IN_FILE, _IN_IDAT):
            raise ValueError("an item is made of other items' data")
        source = file if method == _IN_FILE else idat
        iloc.take(16)
        begin, number, extents = iloc.take(base), iloc.take(16), []
        parts += 1 + number
        if parts > _MAX_PARTS:
            raise ValueError(TOO_MUCH)
        for _ in range(number):
            iloc.take(index if version else 0)
            start, size = begin + iloc.take(offset), iloc.take(length)
            extents.append(source[start : start + size if size else None])
        if sum(map(len, extents)) > len(file):
            raise ValueError(TOO_MUCH)
        yield item, extents[0] if len(extents) == 1 else memoryview(b"".join(extents))
