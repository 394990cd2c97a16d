"""How many pixels of an HEIF's HEVC data would have to be decoded, whatever its boxes say: read without decoding.

Items and what they are made of: ISO/IEC 23008-12, 6. NAL units and sequence parameter sets: ITU-T H.265, 7.3. (HEIC is
HEIF with HEVC.)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

from components.ingestion.formats.iso_media import TOO_MUCH, Bits, boxes, items

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_OTHERS = (b"avif", b"avis")
_ANY_CODEC = (b"mif1", b"mif2", b"msf1")

_CODED, _DERIVED = (b"hvc1", b"hev1"), (b"grid", b"iden")
_MAX_DEPTH = 4  # of derived images
_MAX_SLICES = 64  # of an item; each may be a pass over all its pixels
_MAX_IMAGES = 4  # times the most pixels, for all that has to be decoded: color, alpha, and what tiles have too much
_ROUNDING = 64  # pixels: sides are coded as multiples of up to so many
_MAX_ITEMS, _MAX_ENTRIES = 2000, 50_000  # a grid of 200 megapixels has 768 tiles
_MAX_UNITS = 1000  # of an item
_MAX_PARAMETERS = 200  # bytes in which a sequence's size is
_SEQUENCE_PARAMETERS, _LAST_CODED = 33, 31  # types of units


@dataclasses.dataclass
class _Item:
    kind: bytes
    data: memoryview
    properties: list[tuple[bytes, memoryview]] = dataclasses.field(default_factory=list)
    made_of: list[int] = dataclasses.field(default_factory=list)
    auxiliary: list[int] = dataclasses.field(default_factory=list)  # such as its alpha
    pixels: int | None = None


class _Samples(NamedTuple):
    chroma: int  # chroma_format_idc: 0 is gray
    luma_bits: int
    chroma_bits: int


def is_heif(data: bytes) -> bool:
    """Whether a file claims to be an HEIF and not an AVIF."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), 400)
    brands = [data[8:12], *(data[place : place + 4] for place in range(16, end, 4))]
    if brands[0] in _ANY_CODEC:
        return not any(brand in _OTHERS for brand in brands) or any(brand in _BRANDS for brand in brands)
    return brands[0] in _BRANDS


def exceeds(data: bytes, pixels: int) -> bool:
    """Whether showing a file's primary image takes more decoding than an image of that many pixels needs.

    Raises:
        ValueError: the data that lead to the sizes are damaged, or more than in any good file.
    """
    found, primary = _read(memoryview(data))
    if primary not in found:
        raise ValueError("it has no primary image")
    return _cost(found, primary, pixels) > _most(pixels)


def _most(pixels: int) -> int:
    return _MAX_IMAGES * (pixels + _ROUNDING**2)


def _read(file: memoryview) -> tuple[dict[int, _Item], int]:
    """All items, by their numbers, and which is the primary one."""
    meta = next((content for kind, content in boxes(file) if kind == b"meta"), None)
    if meta is None:
        raise ValueError("it has no list of images (meta box)")
    within = {b"idat": file[:0], **dict(boxes(meta[4:]))}
    missing = [kind for kind in (b"pitm", b"iinf", b"iloc", b"iprp") if kind not in within]
    if missing:
        raise ValueError(f"it has no {missing[0].decode()} box")
    data: dict[int, memoryview] = {}
    read = 0
    for number, content in items(Bits(within[b"iloc"]), file, within[b"idat"]):
        data[number] = content
        read += len(content)
        if read > len(file) or len(data) > _MAX_ITEMS:
            raise ValueError(TOO_MUCH)
    info = within[b"iinf"]
    found = {}
    for kind, content in boxes(info[6 if info[0] == 0 else 8 :], _MAX_ENTRIES):
        if kind == b"infe" and len(content) >= 12:
            long = content[0] == 3
            number = int.from_bytes(content[4 : 8 if long else 6], "big")
            texts = bytes(content[10 if long else 8 :])  # type, name and, of some, the kind of its content
            _check_text(texts)
            found[number] = _Item(texts[:4], data.get(number, file[:0]))
    _assign_properties(dict(boxes(within[b"iprp"])), found)
    if b"iref" in within:
        _add_references(within[b"iref"], found)
    return found, Bits(within[b"pitm"], 4).take(16 if within[b"pitm"][0] == 0 else 32)


def _check_text(texts: bytes) -> None:
    """Raises ValueError if it is none: pi-heif (1.4) would end the process."""
    try:
        texts.decode()
    except UnicodeDecodeError:
        raise ValueError("an item's type or name is no text") from None


def _assign_properties(containers: dict[bytes, memoryview], found: dict[int, _Item]) -> None:
    """Assigns the properties (`ipco`) to their items (`ipma`)."""
    if b"ipco" not in containers or b"ipma" not in containers:
        raise ValueError("its images have no properties")
    properties = list(boxes(containers[b"ipco"], _MAX_ENTRIES))
    entries, left = Bits(containers[b"ipma"]), _MAX_ENTRIES
    version, flags = entries.take(8), entries.take(24)
    for _ in range(entries.take(32)):
        item = found.get(entries.take(32 if version else 16))
        count = entries.take(8)
        left -= 1 + count
        if left < 0:
            raise ValueError(TOO_MUCH)
        for _ in range(count):
            entries.take(1)
            number = entries.take(15 if flags & 1 else 7)
            if item and 0 < number <= len(properties):
                item.properties.append(properties[number - 1])


def _add_references(iref: memoryview, found: dict[int, _Item]) -> None:
    """Which item is derived from which (`dimg`), and which is auxiliary to which (`auxl`)."""
    size, left = 32 if iref[0] else 16, _MAX_ENTRIES
    for kind, content in boxes(iref[4:], _MAX_ENTRIES):
        reference = Bits(content)
        number, count = reference.take(size), reference.take(16)
        left -= 1 + count
        if left < 0:
            raise ValueError(TOO_MUCH)
        others = [reference.take(size) for _ in range(count)]
        if kind == b"dimg" and number in found:
            found[number].made_of += others
        elif kind == b"auxl":
            for other in others:
                if other in found:
                    found[other].auxiliary.append(number)


def _cost(found: dict[int, _Item], number: int, pixels: int, depth: int = 0) -> int:
    """How many pixels must be decoded to show an item; counting ends once they are too many."""
    item = found.get(number)
    if item is None or depth > _MAX_DEPTH:
        raise ValueError("an image is made of what is not there, or of too much")
    if any(kind == b"iscl" for kind, _ in item.properties):
        raise ValueError("it is to be scaled, which is not read")
    if item.kind in _CODED:
        total = _coded(item, pixels)
    elif item.kind in _DERIVED:
        total = _canvas(item) if item.kind == b"grid" else 0
    else:
        raise ValueError(f"its images are {item.kind.decode('latin-1')!r}, and only those of HEVC (hvc1) are read")
    for part in item.made_of if item.kind in _DERIVED else ():
        if total <= _most(pixels):
            total += _cost(found, part, pixels, depth + 1)
    for part in item.auxiliary:
        if total <= _most(pixels) and part in found and found[part].kind in _CODED + _DERIVED:
            total += _cost(found, part, pixels, depth + 1)
    return total


def _canvas(item: _Item) -> int:
    """Pixels of the image that tiles are laid out on."""
    grid = Bits(item.data)
    grid.take(8)
    size = 32 if grid.take(8) & 1 else 16
    tiles = (grid.take(8) + 1) * (grid.take(8) + 1)
    if tiles != len(item.made_of):
        raise ValueError(f"a grid of {tiles} tiles has {len(item.made_of)}")
    return grid.take(size) * grid.take(size)


def _coded(item: _Item, pixels: int) -> int:
    """Pixels of the largest picture that an item's sequence parameters allow; if a picture is too large, too many."""
    if item.pixels is not None:
        return item.pixels
    largest, slices, pictures = 0, 0, 0
    # pi-heif (1.4) makes room for what the configuration says, and writes what the data have.
    told = [_configured(content) for kind, content in item.properties if kind == b"hvcC"]
    if len(set(told)) > 1:
        raise ValueError("an image has several configurations (hvcC)")
    for number, unit in enumerate(_units(item)):
        if number > _MAX_UNITS:
            raise ValueError(TOO_MUCH)
        if len(unit) < 3 or unit[0] & 1 or unit[1] >> 3:  # of another layer: not decoded
            continue
        kind = unit[0] >> 1
        if kind == _SEQUENCE_PARAMETERS:
            width, height, samples = _parameters(bytes(unit[2 : 2 + _MAX_PARAMETERS]))
            if samples not in told:
                raise ValueError("its colors and bits are not those that its configuration (hvcC) says")
            if (width - _ROUNDING) * (height - _ROUNDING) > pixels and min(width, height) > _ROUNDING:
                return _most(pixels) + 1
            largest = max(largest, width * height)
        elif kind <= _LAST_CODED:
            slices += 1
            pictures += unit[2] >> 7
            if slices > _MAX_SLICES or pictures > 1:
                raise ValueError("an image has more pictures or slices than any good one")
    if not largest:
        raise ValueError("an image has no sequence parameters")
    item.pixels = largest
    return largest


def _units(item: _Item) -> Iterator[memoryview]:
    """NAL units of an item's configuration (`hvcC`) and of its data, all of which go to the decoder."""
    length = 4
    for kind, content in item.properties:
        if kind == b"hvcC":
            head = Bits(content, 21)
            length = (head.take(8) & 3) + 1
            place = 23
            for _ in range(head.take(8)):
                many = Bits(content, place + 1).take(16)
                place += 3
                for _ in range(many):
                    size = Bits(content, place).take(16)
                    yield content[place + 2 : place + 2 + size]
                    place += 2 + size
    place = 0
    while place + length <= len(item.data):
        size = int.from_bytes(item.data[place : place + length], "big")
        if size > len(item.data) - place - length:
            raise ValueError("its image data are truncated")
        yield item.data[place + length : place + length + size]
        place += length + size
    if not item.data:
        raise ValueError("an image has no data")


def _configured(configuration: memoryview) -> _Samples:
    """What an `hvcC` says (ISO/IEC 14496-15, 8.3.2)."""
    bits = Bits(configuration, 16)
    chroma, luma_bits, chroma_bits = (bits.take(8) & mask for mask in (3, 7, 7))
    return _Samples(chroma, 8 + luma_bits, 8 + chroma_bits if chroma else 0)


@functools.lru_cache(maxsize=256)
def _parameters(parameters: bytes) -> tuple[int, int, _Samples]:
    """Width and height of a sequence's pictures, in whole coding blocks, and their samples."""
    bits = Bits(memoryview(parameters.replace(b"\0\0\3", b"\0\0")))
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 88 + 8)
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    bits.take(2 * (8 - layers) if layers else 0)
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    _golomb(bits)
    chroma = _golomb(bits)
    if chroma == 3:
        bits.take(1)
    width, height = _golomb(bits), _golomb(bits)
    if bits.take(1):  # a part of it is shown
        for _ in range(4):
            _golomb(bits)
    luma_bits, chroma_bits = 8 + _golomb(bits), 8 + _golomb(bits)
    return width, height, _Samples(chroma, luma_bits, chroma_bits if chroma else 0)


def _golomb(bits: Bits) -> int:
    zeros = 0
    while not bits.take(1):
        zeros += 1
        if zeros > 32:
            raise ValueError(TOO_MUCH)
    return (1 << zeros) - 1 + bits.take(zeros)
