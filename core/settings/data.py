"""The settings `data`: where the images come from, how they are split, and what they must keep to."""

from __future__ import annotations

import dataclasses
from typing import Literal

from core.image_limits import ImageLimits
from core.settings.training import require
from core.uris import split_pattern

DIGITS = "sklearn-digits"
"""The value of `data.images` that stands for scikit-learn's handwritten digits, which need no network."""

TFDS = "tfds:"
"""What a data set of TensorFlow Datasets begins with in `data.images`: `tfds:tf_flowers`."""

MAX_HASH_DISTANCE = 12
"""Bits in which the perceptual hashes of near-duplicates may differ."""

SPLITS = ("train", "eval", "test")


def _default_splits() -> dict[str, int]:
    return {"train": 8, "eval": 1, "test": 1}


@dataclasses.dataclass(frozen=True)
class NearDuplicates:
    """Which pictures count as the same.

    Attributes:
        distance: in how many of 64 bits their perceptual hashes may differ.
    """

    distance: int = 6

    def __post_init__(self) -> None:
        require(
            0 <= self.distance <= MAX_HASH_DISTANCE,
            f"distance is {self.distance}; it is a number of bits, from 0 to {MAX_HASH_DISTANCE}",
        )


@dataclasses.dataclass(frozen=True)
class DataBounds:
    """What the data must keep to before anything is trained on them; null demands nothing. docs/data.md explains each.

    Attributes:
        min_class_images: that every class must have in train.
        min_class_share: of train that every class must have.
        label_drift: how far any class's share may have moved since the last blessed model's data.
        image_drift: likewise the share of any kind of picture: dark ones, small ones, those of a camera.
        split_skew: likewise between train and another split.
        class_changes: how many classes may have appeared or vanished since then.
        leaked: the part of eval and test that may be in another split too, where the layout gives the splits.
    """

    min_class_images: int = 1
    min_class_share: float | None = None
    label_drift: float | None = 0.3
    image_drift: float | None = 0.3
    split_skew: float | None = 0.3
    class_changes: int | None = None
    leaked: float = 0.01

    def __post_init__(self) -> None:
        for name in ("min_class_share", "label_drift", "image_drift", "split_skew", "leaked"):
            value = getattr(self, name)
            require(value is None or 0 <= value <= 1, f"{name} is {value}; it is a part, from 0 to 1")
        require(self.min_class_images >= 1, "min_class_images must be at least 1")
        require(self.class_changes is None or self.class_changes >= 0, "class_changes must not be negative")


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Where the images come from and how they are split.

    Attributes:
        images: a folder, `gs://` or `s3://` too, or a pattern of such folders, as `photos/day-{SPAN}`; `tfds:<name>`;
            or `sklearn-digits`. docs/data.md shows how a folder may be laid out.
        layout: how the folder is laid out; `auto` finds out, and takes folders within class folders for a mistake.
        span: the last span to read, by its number; `latest` is the latest there is.
        window: how many spans to read: that one and those before it.
        metadata: name of a CSV or `.jsonl` file in the folder: a column `file_name`, and more columns to slice by.
        group_by: a column of the metadata whose equal values must share a split, such as a patient's number.
        splits: hash buckets of train, eval and test; a picture's bucket depends on its bytes alone. Splits that the
            layout gives are kept instead.
        near_duplicates: which pictures share a split because they show the same; null: only identical ones.
        max_file_mb: a larger file is a reject, unread; at most 512, and `serving.server.max_message_mb`.
        max_megapixels: so is a picture whose header claims more, undecoded; the exported model refuses it too. At most
            178, and TensorFlow takes some 16 bytes of memory for each pixel.
        max_rejected: the run stops if a larger part of the files than this cannot be used.
        bounds: what the data must keep to before anything is trained on them.
        schema: the reviewed schema of the examples; `schemas/<name>.pbtxt` where it is not given.
    """

    images: str
    layout: Literal["auto", "class_folders", "split_folders", "metadata", "tfrecords"] = "auto"
    span: int | Literal["latest"] = "latest"
    window: int = 1
    metadata: str | None = None
    group_by: str | None = None
    splits: dict[str, int] = dataclasses.field(default_factory=_default_splits)
    near_duplicates: NearDuplicates | None = NearDuplicates()
    max_file_mb: float = 64
    max_megapixels: float = 64
    max_rejected: float = 0.01
    bounds: DataBounds = DataBounds()
    schema: str | None = None

    @property
    def limits(self) -> ImageLimits:
        """How large a picture may be."""
        return ImageLimits(self.max_file_mb, self.max_megapixels)

    def __post_init__(self) -> None:
        _ = self.limits  # raises where one is out of its range
        require(
            set(self.splits) == set(SPLITS) and all(n > 0 for n in self.splits.values()),
            f"splits must give a positive number for each of {', '.join(SPLITS)}",
        )
        require(
            self.group_by is None or self.metadata is not None, "group_by names a column, but metadata is not given"
        )
        require(0 <= self.max_rejected <= 1, f"max_rejected is {self.max_rejected}; it is a part, from 0 to 1")
        _, pattern = split_pattern(self.images)
        require(self.window >= 1, "window must be at least 1")
        require(
            bool(pattern) or (self.span == "latest" and self.window == 1),
            f"span and window choose among the folders of a pattern such as p/day-{{SPAN}}; images is {self.images!r}",
        )
