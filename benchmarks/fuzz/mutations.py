"""Changes to bytes that parsers of lengths, texts and trees do not expect."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 2**20, 2**31 - 1, 2**31, 2**32 - 1)
_HEAD = 300  # bytes, where headers are
_MOST = 2**18  # bytes; what is longer is cut, so that an input costs what is made of it and not its length

Change = Callable[[bytearray, random.Random], None]


def mutated(
    seeds: Sequence[bytes], chance: random.Random, tokens: Sequence[bytes] = (), special: Sequence[Change] = ()
) -> bytes:
    """A seed with one to four changes.

    Args:
        seeds: to choose from, and to splice with.
        chance: decides everything.
        tokens: that mean something in the format.
        special: changes that only this format knows; half of all changes are of these.
    """
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 3, 4))):
        if special and chance.random() < 0.5:
            chance.choice(special)(data, chance)
        elif tokens and chance.random() < 0.4:
            _put_token(data, chance, tokens)
        else:
            chance.choice(_CHANGES)(data, chance)
        if chance.random() < 0.1:
            other = chance.choice(seeds)
            data[chance.randrange(len(data) + 1) :] = other[chance.randrange(len(other) + 1) :]
    return bytes(data[:_MOST])


def _truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 1, 4, 20))):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _overwrite_number(data: bytearray, chance: random.Random) -> None:
    near = chance.randrange(min(len(data), _HEAD) + 1)
    number = chance.choice((*NUMBERS, chance.randrange(2**32)))
    if chance.random() < 0.5:
        data[near : near + 4] = struct.pack(chance.choice("<>") + "I", number)
    else:
        data[near : near + 2] = struct.pack(chance.choice("<>") + "H", number & 65535)


def _repeat(data: bytearray, chance: random.Random) -> None:
    near, place = (chance.randrange(size + 1) for size in (min(len(data), _HEAD), len(data)))
    data[place:place] = data[near : near + chance.randrange(1, 2000)] * chance.choice((1, 1, 1, 50))


def _delete(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    del data[place : place + chance.randrange(1, 64)]


def _insert(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    data[place:place] = chance.randbytes(chance.choice((1, 1, 2, 8, 64)))


def _fill(data: bytearray, chance: random.Random) -> None:
    place, run = chance.randrange(len(data) + 1), chance.randrange(1, 64)
    data[place : place + run] = bytes([chance.choice((0, 0x20, 0x7F, 0x80, 0xFF))]) * run


def _put_token(data: bytearray, chance: random.Random, tokens: Sequence[bytes]) -> None:
    place = chance.randrange(len(data) + 1)
    over = chance.choice((0, 0, 1, 4, 12))
    token = chance.choice(tokens)
    data[place : place + over] = token * min(chance.choice((1, 1, 1, 1, 2, 200)), 1 + _MOST // len(token))


_CHANGES: tuple[Change, ...] = (_truncate, _flip, _overwrite_number, _repeat, _delete, _insert, _fill)
