"""`gallery.json`: the worst mistakes of a model on the test split, with thumbnails beside it."""

from __future__ import annotations

import dataclasses

from core.artifacts.base import Artifact, JsonFile
from core.artifacts.predictions import Prediction

GALLERY = Artifact("WorstMistakes", "gallery")


@dataclasses.dataclass(frozen=True)
class GalleryImage:
    """One mistake.

    Attributes:
        prediction: what was predicted for the image.
        original: name of the file that shows the image.
        seen: of the one that shows what the network saw of it.
        attribution: of the one that shows what spoke for the predicted class; None where there is none.
    """

    prediction: Prediction
    original: str
    seen: str
    attribution: str | None = None


@dataclasses.dataclass(frozen=True)
class Gallery:
    """The mistakes, the worst first."""

    images: list[GalleryImage]


GALLERY_FILE = JsonFile("gallery.json", Gallery)
