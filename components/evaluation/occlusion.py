"""Occlusion sensitivity: where a classifier looked, found by hiding one part of the image after the other.

Zeiler and Fergus, Visualizing and Understanding Convolutional Networks (2014), section 4.2. Needs nothing of the model
but its predictions, so it explains the very model that is served.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

CELLS = 6
"""The image is divided into so many cells a side; the hidden window is `WINDOW` cells wide and moves by one."""

WINDOW = 2

PASSES = (CELLS - WINDOW + 1) ** 2 + 1  # how many images are classified for one map

# Safe for color-blind people, and different in lightness too: orange for, blue against.
_FOR, _AGAINST = np.array([255.0, 140.0, 0.0]), np.array([40.0, 120.0, 255.0])
_FAINTEST = 0.02


def sensitivity(image: np.ndarray, probability: Callable[[Sequence[np.ndarray]], np.ndarray]) -> np.ndarray:
    """How much the probability of a class owes to each part of an image.

    Args:
        image: uint8 [S, S, 3].
        probability: of the class in question, float [n], for n images like `image`.

    Returns:
        float [CELLS, CELLS]: by how much the probability falls when the cell is hidden (negative: rises), the mean of
        all windows that hide it. Hidden means painted over with the image's mean color.
    """
    edges = np.linspace(0, image.shape[0], CELLS + 1).round().astype(int)
    color = image.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    corners = [(row, column) for row in range(CELLS - WINDOW + 1) for column in range(CELLS - WINDOW + 1)]
    hidden = []
    for row, column in corners:
        copy = image.copy()
        copy[edges[row] : edges[row + WINDOW], edges[column] : edges[column + WINDOW]] = color
        hidden.append(copy)
    found = probability([image, *hidden])
    total, windows = np.zeros((CELLS, CELLS)), np.zeros((CELLS, CELLS))
    for (row, column), drop in zip(corners, found[0] - found[1:], strict=True):
        total[row : row + WINDOW, column : column + WINDOW] += drop
        windows[row : row + WINDOW, column : column + WINDOW] += 1
    return total / windows


def overlay(image: np.ndarray, cells: np.ndarray) -> Image.Image:
    """The image, uint8 [S, S, 3], in gray, tinted: orange where it speaks for the class, blue where against.

    The largest of `sensitivity`'s cells gets the full tint, unless all are next to nothing.
    """
    strength = np.clip(cells / max(float(np.abs(cells).max()), _FAINTEST), -1, 1).astype(np.float32)
    side = (image.shape[1], image.shape[0])
    smooth = np.asarray(Image.fromarray(strength).resize(side, Image.Resampling.BICUBIC))
    smooth = np.clip(smooth, -1, 1)[..., None]
    gray = np.asarray(Image.fromarray(image).convert("L"), dtype=np.float32)[..., None].repeat(3, axis=2)
    alpha = 0.75 * np.abs(smooth)
    tint = np.where(smooth > 0, _FOR, _AGAINST)
    return Image.fromarray((gray * (1 - alpha) + tint * alpha).round().astype(np.uint8))
