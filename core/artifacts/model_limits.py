"""`assets.extra/image_limits.json` in an exported model: the largest image it takes."""

from __future__ import annotations

from core.artifacts.base import JsonFile
from core.image_limits import DEFAULT_LIMITS, ImageLimits

MODEL_LIMITS = JsonFile("assets.extra/image_limits.json", ImageLimits)


def model_limits(directory: str) -> ImageLimits:
    """The limits in a SavedModel's directory; the defaults if it has none."""
    return MODEL_LIMITS.read_if_any(directory) or DEFAULT_LIMITS
