"""The settings `training.augmentation`: how training images are varied."""

import dataclasses
from typing import Annotated

from msgspec import Meta

from core.settings.checks import FractionBelow1, require


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
    """How training images are varied; evaluation and serving see them as they are.

    Attributes:
        flip: mirror left and right, half of the time.
        crop: cut away up to this fraction of the sides' length, anywhere, and resize what is left.
        color: multiply each of red, green and blue by up to this fraction more or less.
        brightness: add up to this fraction of the range from black to white, or take it away.
        cutout: gray out a square whose side is this fraction of the image's.
        views: compute so many variants of each training image once, and cache their features; training then draws one
            of them each time. null: images are read live and varied anew each time, through the whole network.
    """

    flip: bool = False
    crop: FractionBelow1 = 0.0
    color: FractionBelow1 = 0.0
    brightness: FractionBelow1 = 0.0
    cutout: FractionBelow1 = 0.0
    views: Annotated[int, Meta(ge=1, le=100)] | None = None

    def __post_init__(self) -> None:
        require(
            self.flip or any((self.crop, self.color, self.brightness, self.cutout)),
            "augmentation varies nothing; give flip, crop, color, brightness or cutout, or null for none",
        )
