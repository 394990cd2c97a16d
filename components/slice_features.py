"""What an image is like, in a few words each: the slices by which the Evaluator compares models."""

from __future__ import annotations

from components.image_reading import ReadImage

SMALL_BELOW = 299 * 299
"""Pixels in all; InceptionV3 at its native size has to enlarge smaller images."""

LARGE_FROM = 1_000_000
"""Pixels in all."""

SQUARE_WITHIN = 1.1
"""The longer side over the shorter; up to this an image counts as square."""

DARK_BELOW = 85
BRIGHT_FROM = 170
"""Mean luma, of 255: thirds."""

NAMES = ("resolution", "aspect", "brightness", "format")
"""The features every image has; columns of metadata.csv must be called something else."""


def describe(image: ReadImage) -> dict[str, str]:
    """The image's value for each of `NAMES`: all from what was read anyway, nothing is decoded again."""
    return {
        "resolution": resolution(image.width, image.height),
        "aspect": aspect(image.width, image.height),
        "brightness": brightness(image.brightness),
        "format": image.file_format,
    }


def resolution(width: int, height: int) -> str:
    """`small` below `SMALL_BELOW` pixels in all, `large` from `LARGE_FROM`, else `medium`."""
    pixels = width * height
    if pixels < SMALL_BELOW:
        return "small"
    return "large" if pixels >= LARGE_FROM else "medium"


def aspect(width: int, height: int) -> str:
    """`square` if the sides are within a factor of `SQUARE_WITHIN`, else `portrait` or `landscape`."""
    if max(width, height) <= SQUARE_WITHIN * min(width, height):
        return "square"
    return "portrait" if height > width else "landscape"


def brightness(mean_luma: float) -> str:
    """`dark` below `DARK_BELOW` of 255, `bright` from `BRIGHT_FROM`, else `medium`."""
    if mean_luma < DARK_BELOW:
        return "dark"
    return "bright" if mean_luma >= BRIGHT_FROM else "medium"
