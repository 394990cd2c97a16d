"""Netpbm's formats, PBM, PGM, PPM and PAM, as arrays (netpbm.sourceforge.net/doc, pbm.html to pam.html).

Pillow reads most of them, too, but sample by sample in Python where the maximum value is not 255.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

_MAGIC = re.compile(rb"P[1-7](?=[\s#])")
_NUMBER = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})")
_COMMENT = re.compile(rb"#[^\r\n]*")
_PAM_HEADER = re.compile(rb"P7\s(?:(?:#|[A-Z]+\b)[^\n]*\n|\s)*?ENDHDR\s*?\n")
_MAX_HEADER = 4096  # bytes
_TRUNCATED = "image file is truncated"


class Header(NamedTuple):
    """A file's header.

    Attributes:
        kind: from 1, ASCII bits, to 7, PAM.
        depth: samples a pixel: gray, gray and alpha, RGB, RGBA.
        most: the value of white.
        begin: offset of the samples, in bytes.
    """

    kind: int
    width: int
    height: int
    depth: int
    most: int
    begin: int


def is_netpbm(data: bytes) -> bool:
    """Whether it begins like one of them."""
    return _MAGIC.match(data) is not None


def read_header(data: bytes) -> Header:
    """Raises ValueError if it is damaged."""
    kind = data[1] - ord("0")
    if kind == 7:
        width, height, depth, most, begin = _pam_header(data[:_MAX_HEADER])
    else:
        numbers, begin = [], 2
        for _ in range(2 if kind in (1, 4) else 3):
            found = _NUMBER.match(data, begin, begin + _MAX_HEADER)
            if not found:
                raise ValueError("its size or largest value is missing")
            numbers.append(int(found[1]))
            begin = found.end()
        width, height, most = *numbers, *([1] if kind in (1, 4) else [])
        depth, begin = (3 if kind in (3, 6) else 1), begin + 1
    if not (width and height and 0 < most < 65_536 and 1 <= depth <= 4):
        raise ValueError("its size or largest value is none")
    return Header(kind, width, height, depth, most, begin)


def _pam_header(head: bytes) -> tuple[int, int, int, int, int]:
    found = _PAM_HEADER.match(head)
    if not found:
        raise ValueError("its header has no end")
    values = dict(re.findall(rb"^(WIDTH|HEIGHT|DEPTH|MAXVAL)\s+(\d{1,9})\s*$", found[0], re.MULTILINE))
    try:
        width, height, depth, most = (int(values[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
    except KeyError as error:
        raise ValueError(f"its header has no {error.args[0].decode()}") from None
    return width, height, depth, most, found.end()


def read_samples(data: bytes, header: Header) -> np.ndarray:
    """Uint8 or uint16 [height, width, depth], from 0 to `header.most`, which is white.

    Raises:
        ValueError: there are too few samples, or one is larger.
    """
    count = header.width * header.height * header.depth
    room = len(data) - header.begin
    if header.kind == 4:
        row = -(-header.width // 8)
        if room < row * header.height:
            raise ValueError(_TRUNCATED)
        packed = np.frombuffer(data, np.uint8, row * header.height, header.begin).reshape(header.height, row)
        samples = 1 - np.unpackbits(packed, axis=1)[:, : header.width]
    elif header.kind in (1, 2, 3):
        if 2 * room + 2 < (2 * count if header.kind == 1 else 4 * count):  # a digit each, with blanks between
            raise ValueError(_TRUNCATED)
        samples = _from_text(_COMMENT.sub(b"", data[header.begin :]), header.kind, count)
    else:
        kind = np.dtype(np.uint8 if header.most < 256 else ">u2")
        if room < count * kind.itemsize:
            raise ValueError(_TRUNCATED)
        samples = np.frombuffer(data, kind, count, header.begin)
    if int(samples.max()) > header.most:
        raise ValueError(f"a value is larger than {header.most}, which is its largest")
    native = samples.astype(np.uint8 if header.most < 256 else np.uint16, copy=False)
    return native.reshape(header.height, header.width, header.depth)


def _from_text(text: bytes, kind: int, count: int) -> np.ndarray:
    if kind == 1:  # black is 1, and blanks between are optional
        digits = np.frombuffer(text, np.uint8)
        samples = np.uint8(1) - (digits[(digits == ord("0")) | (digits == ord("1"))][:count] - np.uint8(ord("0")))
    else:
        if re.search(rb"[^0-9\s]", text):
            raise ValueError("a value is no number")
        blank = np.frombuffer(b" " + text, np.uint8) <= ord(" ")
        if np.count_nonzero(blank[:-1] & ~blank[1:]) < count:  # of too few, `fromstring` makes up the rest
            raise ValueError(_TRUNCATED)
        samples = np.fromstring(text, np.int64, count, sep=" ")  # type: ignore[call-overload]
    if len(samples) < count:
        raise ValueError(_TRUNCATED)
    return samples
