"""What SuspectLabels writes: the images that another class fits better, and how many labels seem wrong."""

from __future__ import annotations

import dataclasses

from core.artifacts.base import Artifact, JsonFile, JsonLines
from core.artifacts.verdict import Range

SUSPECTS = Artifact("SuspectLabels", "suspects")


@dataclasses.dataclass(frozen=True)
class Suspect:
    """An image whose label is in doubt.

    Attributes:
        path: relative to the data folder; `sha256` is of the same file.
        label: as given; `likely` is the class that fits better.
        label_probability: of the given label, out of fold.
        likely_probability: of the likely class, out of fold.
        confident: whether it counts as an error: the likely class is at least as probable as on average for images with
            that label.
    """

    path: str
    sha256: str
    split: str
    label: str
    likely: str
    label_probability: float
    likely_probability: float
    confident: bool


@dataclasses.dataclass(frozen=True)
class LabelQuality:
    """How many labels seem wrong.

    Attributes:
        images: how many were judged.
        suspects: how many `SUSPECTS_FILE` lists; `errors` of them are `confident`.
        error_rate: `errors` as a fraction of `images`, with its interval.
        accuracy: how often the judging classifier agrees with the given labels, out of fold.
        not_judged: images of classes that are too small.
        reason: why no image was judged; None if any was.
    """

    images: int
    suspects: int
    errors: int
    error_rate: Range
    accuracy: Range
    not_judged: int
    reason: str | None = None


SUSPECTS_FILE = JsonLines("suspects.jsonl", Suspect)  # the most doubtful label first
SUSPECTS_CSV = "suspects.csv"  # the same, beside it
QUALITY = JsonFile("label_quality.json", LabelQuality)
