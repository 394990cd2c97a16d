"""AVIFs by hand, of boxes and sequence headers that no encoder here writes."""

import struct

import pytest

from components.ingestion.formats import av1_size


def packed(*fields: tuple[int, int]) -> bytes:
    """Values and their bits, highest first, and zeros up to a whole byte."""
    bits = "".join(f"{value:0{count}b}" for value, count in fields)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def sequence(width: int, height: int, *before: tuple[int, int], bits: int = 16) -> bytes:
    """A unit with a sequence header; what is `before` its sizes is else that of a still picture's reduced one."""
    sizes = ((bits - 1, 4), (bits - 1, 4), (width - 1, bits), (height - 1, bits))
    payload = packed(*(before or ((0, 3), (1, 1), (1, 1), (0, 5))), *sizes)
    return bytes([1 << 3 | 2, len(payload)]) + payload


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def avif(*streams: bytes, shared: int = 1) -> bytes:
    """An item for every stream, or so many for each."""
    items = [stream for stream in streams for _ in range(shared)]
    locations = struct.pack(">IHH", 0, 0x4400, len(items)) + bytes(14 * len(items))
    begin = len(box(b"ftyp", b"avif") + box(b"meta", bytes(4) + box(b"iloc", locations))) + 8
    offsets = {stream: begin + sum(map(len, streams[:number])) for number, stream in enumerate(streams)}
    entries = (
        struct.pack(">HHHII", number, 0, 1, offsets[stream], len(stream)) for number, stream in enumerate(items, 1)
    )
    locations = struct.pack(">IHH", 0, 0x4400, len(items)) + b"".join(entries)
    return box(b"ftyp", b"avif") + box(b"meta", bytes(4) + box(b"iloc", locations)) + box(b"mdat", b"".join(streams))


VIDEO = ((0, 3), (0, 1), (0, 1))
NO_TIMING = (*VIDEO, (0, 1), (0, 1), (0, 5), (0, 12), (0, 5))
TIMING = (
    *VIDEO, (1, 1), (1, 32), (25, 32), (1, 1), (0b00101, 5),  # 4 ticks a picture
    (1, 1), (9, 5), (1, 32), (9, 5), (9, 5),  # delays of 10 bits
    (1, 1), (1, 5), (0, 12), (8, 5), (1, 1), (1, 1), (0, 21), (1, 1), (3, 4), (0, 12), (7, 5), (0, 1), (0, 1),
)  # fmt: skip


@pytest.mark.parametrize(
    "before", [(), NO_TIMING, TIMING], ids=["a still picture", "a video", "a video with its times"]
)
def test_the_size_is_read_behind_whatever_is_before_it(before: tuple[tuple[int, int], ...]) -> None:
    assert av1_size.largest(avif(b"\x12\0" + sequence(300, 200, *before, bits=9)), 10**6) == (300, 200)


def test_where_frames_may_be_larger_than_their_sequence_that_counts() -> None:
    assert av1_size.largest(avif(sequence(300, 200, bits=16)), 10**6) == (300, 200)
    assert av1_size.largest(avif(sequence(300, 200, *NO_TIMING, bits=16)), 10**6) == (65536, 65536)


def test_of_several_images_the_largest_counts_and_all_together() -> None:
    streams = [sequence(1000, height) for height in (996, 997, 998, 999, 1000)]

    assert av1_size.largest(avif(*streams[:4]), 10**6) == (1000, 999)
    assert av1_size.largest(avif(streams[0], streams[4]), 999_000) == (1000, 1000)
    assert av1_size.largest(avif(streams[0] + streams[4]), 10**6) == (1000, 1000)
    with pytest.raises(ValueError, match="images of more than 4 times the pixels allowed"):
        av1_size.largest(avif(*streams), 10**6)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (avif(sequence(8, 8) * 100, shared=3), "more boxes or coded data than any good file has"),
        (avif(b"\x12\0" * 10_001), "more boxes or coded data than any good file has"),
        (box(b"free", b"") * 1001, "more boxes or coded data than any good file has"),
        (box(b"moov", b"") * 51, "more boxes or coded data than any good file has"),
        (avif(b"\x0a\1\0"), "end too early"),
        (box(b"free", bytes(8))[:-4], "a box is longer than what holds it"),
        (
            avif(sequence(8, 8)).replace(struct.pack(">IHH", 0, 0x4400, 1), struct.pack(">IHH", 0, 0x4400, 9)),
            "too early",
        ),
    ],
    ids=["shared data", "units", "boxes", "containers", "a short header", "a short file", "a short list"],
)
def test_what_is_damaged_or_endless_is_told(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        av1_size.largest(data, 10**6)
