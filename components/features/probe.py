"""Fingerprints what the preprocessing and the frozen network compute, by the features of a few built-in images.

Source text and library versions say whether something *may* have changed; these features say whether it has. Stored
features are reused as long as they would be computed alike today for images of every decoding path.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from core import examples

MAX_CHANGE = 1e-3
"""Relative L2 distance of the features of any built-in image up to which stored features are reused.

Measured with ImageNet's and with random weights, at 75 and 299 pixels and three cuts: turning off oneDNN changes
float32 by 2e-6, dividing pixels by 128 instead of 127.5 by 3e-3 to 1e-2, JPEG's accurate DCT by 1e-2 to 9e-2, another
way to resize by 5e-2 to 4e-1, an ignored EXIF orientation by 1e-1 to 1. bfloat16's rounding would hide the smaller
changes, so the probe is always computed in float32.
"""

_SKETCH = 64
_JPEG = Path(__file__).with_suffix(".rgb.jpg")
_CMYK = Path(__file__).with_suffix(".cmyk.jpg")
_LARGE = Path(__file__).with_suffix(".large.jpg")


def images(image_size: int) -> dict[str, bytes]:
    """Image files by description: one for each way through the decoder.

    Every platform and version makes the same pixels. The JPEG files, whose pixels depend on the encoder, are stored
    beside this module. They are enlarged to `image_size` for the network, the others shrunk to half. The large one, of
    1,201 x 1,207, which no fraction divides, is decoded at half size, at a quarter or an eighth for networks of up to
    150 pixels, and at full size for those of more than 300.
    """
    width, height = 2 * image_size, 3 * image_size // 2
    pixels = np.stack([_texture(height, width, seed) for seed in range(3)], axis=-1)
    grey = pixels[..., 0].astype(np.uint16)
    jpeg = _JPEG.read_bytes()
    palette = Image.fromarray(pixels[..., 0] // 4, "P")
    palette.putpalette(bytes(pixels[0, :64].reshape(-1)))
    alpha = Image.fromarray(np.concatenate([pixels, pixels[..., 2:]], axis=-1), "RGBA")
    return {
        "JPEG": jpeg,
        "JPEG, EXIF orientation 6": jpeg[:2] + _exif(6) + jpeg[2:],
        "JPEG, CMYK": _CMYK.read_bytes(),
        "JPEG, large": _LARGE.read_bytes(),
        "PNG": _encoded(Image.fromarray(pixels), "PNG"),
        "PNG, grey": _encoded(Image.fromarray(pixels[..., 1]), "PNG"),
        "PNG, 16 bits": _encoded(Image.fromarray(grey * 256 + pixels[..., 1]), "PNG"),
        "PNG, few of 16 bits": _encoded(Image.fromarray(grey), "PNG"),  # which `data.stretch` changes, whatever it is
        "PNG, palette": _encoded(palette, "PNG"),
        "PNG, alpha": _encoded(alpha, "PNG"),
        "GIF": _encoded(palette, "GIF"),
        "BMP": _encoded(Image.fromarray(pixels), "BMP"),
    }


def probe(image_size: int, compute: Callable[[Sequence[bytes]], np.ndarray]) -> bytes:
    """The features of the built-in images; `compute` maps n raw tf.Examples to features [n, ...].

    Returns:
        64 numbers per image, little-endian float32: each is the sum, with random signs, of a random part of the
        features, which preserves distances (feature hashing, Weinberger et al. 2009).
    """
    records = [_example(name, encoded) for name, encoded in images(image_size).items()]
    features = compute(records).astype(np.float64).reshape(len(records), -1)
    random = np.random.RandomState(0)  # whose numbers no version of NumPy changes (NEP 19)
    buckets = random.randint(_SKETCH, size=features.shape[1])
    signs = random.randint(2, size=features.shape[1]) * 2 - 1
    sketches = [np.bincount(buckets, signs * of_image, _SKETCH) for of_image in features]
    return np.stack(sketches).astype("<f4").tobytes()


def agree(probed: bytes, stored: bytes) -> bool:
    """Whether two results of `probe` are equal up to rounding, for every image."""
    if len(probed) != len(stored):
        return False
    now, then = (np.frombuffer(values, "<f4").astype(np.float64).reshape(-1, _SKETCH) for values in (probed, stored))
    return bool((np.linalg.norm(now - then, axis=1) <= MAX_CHANGE * np.linalg.norm(then, axis=1)).all())


def _texture(height: int, width: int, seed: int) -> np.ndarray:
    """Uint8 [height, width]: a sum of random squares of 2, 8 and 32 pixels, with details and shapes like a photo's."""
    random = np.random.RandomState(seed)
    total = np.zeros((height, width), int)
    for side, amplitude in ((2, 64), (8, 64), (32, 128)):
        squares = random.randint(amplitude, size=(height // side + 1, width // side + 1))
        total += squares.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
    return np.minimum(total, 255).astype(np.uint8)


def _exif(orientation: int) -> bytes:
    """A JPEG's EXIF segment with one entry (EXIF 2.32, section 4.5)."""
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00" + bytes([orientation]) + b"\x00\x00"
    tiff = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01" + entry + b"\x00\x00\x00\x00"
    return b"\xff\xe1" + (len(tiff) + 2).to_bytes(2, "big") + tiff


def _encoded(image: Image.Image, kind: str) -> bytes:
    target = io.BytesIO()
    image.save(target, kind)
    return target.getvalue()


def _example(name: str, encoded: bytes) -> bytes:
    values = {examples.IMAGE: encoded, examples.SHA256: name.encode()}  # the hash seeds the variants
    feature = {key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for key, value in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
