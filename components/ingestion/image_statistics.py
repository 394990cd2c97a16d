"""Statistics of a decoded image, for slices that need no metadata."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

STATISTICS = ("resolution", "brightness", "contrast", "sharpness", "colorfulness")
"""Names of the statistics that `measure` returns."""

_SIDE = 256  # pixels: the sharpness of large and small images is compared at the size at which people view them
_ROWS = 64
_LEFT = 2

ENOUGH = _LEFT * _SIDE
"""Length of the longer side of a reduced image, in pixels."""


class Reduced(NamedTuple):
    """A large image reduced to the means of square blocks of pixels, so small that describing it costs nothing.

    Attributes:
        box: how much of `image` the original covers: blocks at its right and lower edge may be incomplete.
        pixels: how many the original has.
    """

    image: Image.Image
    box: tuple[float, float]
    pixels: int


def reduced(pixels: np.ndarray) -> Reduced:
    """Reduces uint8 [h, w, 3]."""
    height, width, _ = pixels.shape
    side = max(1, max(pixels.shape) // ENOUGH)
    rows = _ROWS * side  # at a time, to save memory
    parts = [Image.fromarray(pixels[top : top + rows]).reduce(side) for top in range(0, len(pixels), rows)]
    image = Image.fromarray(np.concatenate([np.asarray(part) for part in parts]))
    return Reduced(image, (width / side, height / side), width * height)


def measure(picture: Reduced) -> dict[str, float]:
    """The statistics of an image, all except `resolution` at a longer side of at most 256 pixels.

    Returns:
        `resolution` in millions of pixels; `brightness` and `contrast`, mean and standard deviation of luma (ITU-R
        601-2), from 0 to 1; `sharpness`, the variance of the Laplacian of luma (Pech-Pacheco et al. 2000), of 0 to 255;
        `colorfulness` after Hasler and Suesstrunk (2003): 0 is gray, above 80 is vivid.
    """
    scale = min(1.0, _SIDE / max(picture.box))
    size = [max(1, round(side * scale)) for side in picture.box]
    small = picture.image.resize(size, Image.Resampling.BOX, (0, 0, *picture.box), reducing_gap=_LEFT)
    luma = np.asarray(small.convert("L"), np.float64)
    return {
        "resolution": picture.pixels / 1e6,
        "brightness": float(luma.mean() / 255),
        "contrast": float(luma.std() / 255),
        "sharpness": _sharpness(luma),
        "colorfulness": _colorfulness(np.asarray(small, np.float64)),
    }


def _sharpness(luma: np.ndarray) -> float:
    """The sharpness of the inner pixels; 0 if there are none."""
    if min(luma.shape) < 3:
        return 0.0
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float((around - 4 * luma[1:-1, 1:-1]).var())


def _colorfulness(rgb: np.ndarray) -> float:
    red, green, blue = np.moveaxis(rgb, -1, 0)
    yellow_blue, red_green = (red + green) / 2 - blue, red - green
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))
