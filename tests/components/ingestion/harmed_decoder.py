"""A decoder that some files harm, in a module of its own: the process that decodes imports it, and no other test."""

import os
import signal
import time

from components.ingestion.image_reading import ReadImage, Room, read_image
from core.image_limits import ImageLimits


def harmed_by(data: bytes, limits: ImageLimits, room: Room) -> ReadImage:
    """`read_image`, but that some files crash, hang or exhaust its decoder, as they might TensorFlow's."""
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
    return read_image(data, limits, room)
