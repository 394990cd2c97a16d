"""The settings `backbone`: the pre-trained network."""

import dataclasses
import re
from typing import Annotated, Literal

from msgspec import Meta

from core.settings.checks import require

BLOCKS = tuple(f"mixed{i}" for i in range(11))
"""The outputs of InceptionV3's blocks, in order: the places where the network can be cut."""

MIN_IMAGE_SIZE = 75
"""Pixels; InceptionV3 without its top refuses smaller images."""

WeightsPath = Annotated[str, Meta(extra_json_schema={"format": "path", "examples": ["imagenet", "random"]})]

Block = Annotated[str, Meta(extra_json_schema={"enum": list(BLOCKS)})]


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """The pre-trained network.

    Attributes:
        weights: `imagenet`, `random`, or the path or TF-Hub handle of any kind of weights in docs/fine-tuning.md.
        sha256: the SHA-256 that the weights must have, as in `backbone.sha256` of `last_run.json`; other weights end
            the run. null accepts any.
        if_unreachable: what to do if `imagenet` or a TF-Hub handle can be neither downloaded nor found in its cache.
        image_size: side of the square the images are resized to, in pixels; InceptionV3 needs at least 75.
        output: the block whose pooled output the head sees.
    """

    weights: WeightsPath = "imagenet"
    sha256: str | None = None
    if_unreachable: Literal["error", "random"] = "error"
    image_size: Annotated[int, Meta(ge=MIN_IMAGE_SIZE)] = 299
    output: Block = "mixed10"

    def __post_init__(self) -> None:
        require(
            self.sha256 is None or re.fullmatch("[0-9a-f]{64}", self.sha256) is not None,
            f"sha256 is {self.sha256!r}; it is 64 hexadecimal digits in lower case, as sha256sum prints them",
        )
