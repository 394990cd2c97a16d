"""`gallery.json`: the worst mistakes of a model on the test split, with thumbnails beside it."""

from __future__ import annotations

import dataclasses

from core.artifacts.base import Artifact, JsonFile
from core.artifacts.predictions import Prediction

GALLERY = Artifact("WorstMistakes", "gallery")


@dataclasses.dataclass(frozen=True)
class GalleryNeighbor:
    """A training image that looks similar to a misclassified one, and the name of its thumbnail file.

    Attributes:
        similarity: cosine similarity of the two images' features.
    """

    path: str
    label: str
    similarity: float
    file: str


@dataclasses.dataclass(frozen=True)
class GalleryImage:
    """One mistake, and the files that show the image, the network's input, and the attribution of the predicted class.

    Attributes:
        neighbors: the most similar training images, nearest first; empty if no features are stored.
    """

    prediction: Prediction
    original: str
    seen: str
    attribution: str
    neighbors: list[GalleryNeighbor]


@dataclasses.dataclass(frozen=True)
class Gallery:
    """The mistakes, worst first."""

    images: list[GalleryImage]


GALLERY_FILE = JsonFile("gallery.json", Gallery)
