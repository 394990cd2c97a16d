"""Decoders that some files harm, in a module of its own: the process that decodes imports it, and no other test."""

import os
import signal
import time

from components.ingestion import image_reading
from components.ingestion.image_reading import ReadImage, Room
from core.image_limits import ImageLimits


def read_image(data: bytes, limits: ImageLimits, room: Room) -> ReadImage:
    """That of `image_reading`, but that some files crash, hang or exhaust its decoder, as they might TensorFlow's."""
    _harm(data)
    return image_reading.read_image(data, limits, room)


def for_model(data: bytes, limits: ImageLimits, room: Room) -> bytes:
    """Likewise."""
    _harm(data)
    return image_reading.for_model(data, limits, room)


def statistics_of(data: bytes, limits: ImageLimits, room: Room) -> dict[str, float]:
    """Likewise."""
    _harm(data)
    return image_reading.statistics_of(data, limits, room)


def _harm(data: bytes) -> None:
    if data.startswith(b"SIG"):
        os.kill(os.getpid(), signal.Signals[data.decode()])
    while data == b"hangs":
        pass
    while data == b"never answers":
        time.sleep(1)
    if data == b"exhausts":
        bytearray(2**34)  # address space that is never touched
    if data == b"a bug":
        raise KeyError("a bug")
