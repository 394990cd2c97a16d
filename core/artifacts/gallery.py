"""`gallery.json`: the worst mistakes of a model on the test split, with thumbnails beside it."""

from __future__ import annotations

import dataclasses

from core.artifacts.base import Artifact, JsonFile
from core.artifacts.predictions import Prediction

GALLERY = Artifact("WorstMistakes", "gallery")


@dataclasses.dataclass(frozen=True)
class GalleryNeighbor:
    """A training image that looks like a mistake to the network, and the name of the file that shows it.

    Attributes:
        similarity: cosine of the angle between both images' features.
    """

    path: str
    label: str
    similarity: float
    file: str


@dataclasses.dataclass(frozen=True)
class GalleryImage:
    """One mistake, and the names of the files that show the image, what the network saw of it, and what spoke for the
    predicted class.

    Attributes:
        neighbors: the training images most like it, the nearest first; none where no features are stored.
    """

    prediction: Prediction
    original: str
    seen: str
    attribution: str
    neighbors: list[GalleryNeighbor]


@dataclasses.dataclass(frozen=True)
class Gallery:
    """The mistakes, the worst first."""

    images: list[GalleryImage]


GALLERY_FILE = JsonFile("gallery.json", Gallery)
