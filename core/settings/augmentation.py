"""The settings `training.augmentation`: random changes to training images."""

import dataclasses
from typing import Annotated

from msgspec import Meta

from core.settings.checks import FractionBelow1, require


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
    """Random changes to training images; evaluation and serving use images as they are.

    Attributes:
        flip: mirror left and right, half of the time.
        crop: cut off up to this fraction of each side's length, anywhere, and resize the rest.
        color: scale each of red, green and blue up or down by up to this fraction.
        brightness: add or subtract up to this fraction of the range from black to white.
        cutout: gray out a square whose side is this fraction of the image's.
        views: compute this many variants of each training image once and cache their features; training draws one of
            them each time. null: augment images anew in each step, which runs the whole network.
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
