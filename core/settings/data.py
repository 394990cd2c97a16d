"""The settings `data`: where the images come from, how they are split, and which bounds they must keep."""

import dataclasses
from typing import Annotated, Literal

from msgspec import Meta

from core.image_limits import DEFAULT_LIMITS, FileMB, ImageLimits, Megapixels, SensorBits, Transparent
from core.settings.checks import AtLeast0, AtLeast1, FilePath, Fraction, require
from core.uris import split_pattern

DIGITS = "sklearn-digits"
"""The value of `data.images` for scikit-learn's handwritten digits, which need no network."""

TFDS = "tfds:"
"""Prefix of `data.images` for a data set from TensorFlow Datasets, as in `tfds:tf_flowers`."""

ImagesPath = Annotated[str, Meta(extra_json_schema={"format": "path", "examples": [DIGITS]})]

MAX_HASH_DISTANCE = 12
"""The most bits in which the perceptual hashes of near-duplicates may differ."""

SPLITS = ("train", "eval", "test")


@dataclasses.dataclass(frozen=True)
class NearDuplicates:
    """Which images count as the same.

    Attributes:
        distance: how many of the 64 bits of their perceptual hashes may differ.
    """

    distance: Annotated[int, Meta(ge=0, le=MAX_HASH_DISTANCE)] = 6


@dataclasses.dataclass(frozen=True)
class DataBounds:
    """Bounds that the data must keep, or nothing is trained on them; null means no bound. docs/data.md explains each.

    Attributes:
        min_class_share: the minimum share of each class in train.
        label_drift: how much the share of any class may have changed since the last blessed model's data.
        image_drift: how much the share of any kind of image (dark, small, from one camera) may have changed since then.
        split_skew: how much such a share may differ between train and another split.
        class_changes: how many classes may have appeared or disappeared since then.
        leaked: the fraction of eval and test that may also be in another split, if the layout gives the splits.
        shortcut: how well a single column, such as the format, may predict a class, as balanced accuracy.
        contradicting: the fraction of the images that may be left out because identical ones have different labels.
    """

    min_class_share: Fraction | None = None
    label_drift: Fraction | None = 0.3
    image_drift: Fraction | None = 0.3
    split_skew: Fraction | None = 0.3
    class_changes: AtLeast0 | None = None
    leaked: Fraction = 0.01
    shortcut: Fraction | None = None
    contradicting: Fraction = 0.01


SmallClasses = Literal["refuse", "leave_out"]

Layout = Literal["auto", "class_folders", "split_folders", "metadata", "tfrecords"]
Links = Literal["refuse", "inside", "follow"]


@dataclasses.dataclass(frozen=True)
class IngestionConfig:
    """What determines the tf.Examples made from a data folder; see `DataSettings`.

    Attributes:
        bucket_boundaries: of each image statistic, ascending; kept in the schema.
        least_classes: a folder with fewer classes is refused as the wrong one.
    """

    layout: Layout
    window: int
    metadata: str | None
    columns: dict[str, str | None]
    group_by: str | None
    ignore: tuple[str, ...]
    links: Links
    splits: dict[str, int]
    near_duplicates: NearDuplicates | None
    min_class_images: int
    small_classes: SmallClasses
    limits: ImageLimits
    bucket_boundaries: dict[str, list[float]]
    least_classes: int = 2


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Where the images come from and how they are split.

    Attributes:
        images: a folder, local, `gs://` or `s3://`; a pattern of such folders, as in `photos/day-{SPAN}`;
            `tfds:<name>`; or `sklearn-digits`. docs/data.md shows the layouts a folder may have.
        layout: how the folder is laid out; `auto` detects it, and refuses folders within class folders as a mistake.
        span: the number of the last span to read; `latest` is the latest that exists.
        window: how many spans to read, ending with that one.
        metadata: name of a CSV or `.jsonl` file in the folder, or in each of its subfolders, with a column of file
            names and more columns to slice by. `metadata.csv`, `.tsv` and `.jsonl` are always read, and so is the only
            other table in the folder if it gives the classes or splits of images.
        columns: names of the metadata columns `file_name`, `label` and `split`; null: there is none. Columns not given
            here are found by their usual names. For TFRecords, `label` and `file_name` are the keys of the label and of
            the encoded image.
        group_by: a metadata column whose equal values must share a split, such as a patient's number.
        ignore: globs of files and folders to ignore, relative to the data folder, as in a .gitignore file: `*.bak` and
            `old/` at any depth, `/train/old/` or `**/old/*.png` by path.
        links: which symbolic links are followed: `refuse` stops the run at any link; `inside` follows those that stay
            in the data folder, stops the run if a folder leads out of it, and rejects a file that does; `follow`
            follows all, and the run names the folders they lead to.
        splits: hash buckets of train, eval and test; an image's bucket depends only on its bytes. Splits given by the
            layout take precedence.
        near_duplicates: which images share a split because they show the same thing; null: only identical ones.
        min_class_images: how many images every class must have in train; if the splits are made here, this many of a
            class go to train first.
        small_classes: what to do with smaller classes: `refuse` stops the run, `leave_out` trains without them.
        max_file_mb: a larger file is rejected unread; at most 512 and at most `serving.server.max_message_mb`.
        max_megapixels: an image whose header claims more is rejected undecoded, also by the exported model. At most
            178; TensorFlow needs some 16 bytes of memory per pixel.
        transparent: the background for transparent pixels, also in the exported model; `drop` uses the colors stored
            beneath them.
        stretch: how many bits a sensor uses of 16-bit images, such as 12: images whose values all fit are scaled from
            these to the network's 8 bits, also in the exported model; null: from all 16.
        max_rejected: the run stops if a larger fraction of the files cannot be used.
        bounds: what the data must satisfy before anything is trained on them.
        schema: the reviewed schema of the examples; by default the checkout's `schemas/<name>.pbtxt`.
    """

    images: ImagesPath
    layout: Layout = "auto"
    span: int | Literal["latest"] = "latest"
    window: AtLeast1 = 1
    metadata: str | None = None
    columns: dict[str, str | None] = dataclasses.field(default_factory=dict)
    group_by: str | None = None
    ignore: tuple[str, ...] = ()
    links: Links = "inside"
    splits: dict[str, AtLeast1] = dataclasses.field(default_factory=lambda: {"train": 8, "eval": 1, "test": 1})
    near_duplicates: NearDuplicates | None = NearDuplicates()
    min_class_images: AtLeast1 = 1
    small_classes: SmallClasses = "refuse"
    max_file_mb: FileMB = DEFAULT_LIMITS.max_file_mb
    max_megapixels: Megapixels = DEFAULT_LIMITS.max_megapixels
    transparent: Transparent = DEFAULT_LIMITS.transparent
    stretch: SensorBits | None = DEFAULT_LIMITS.stretch
    max_rejected: Fraction = 0.01
    bounds: DataBounds = DataBounds()
    schema: FilePath | None = None

    @property
    def limits(self) -> ImageLimits:
        """How image files are read."""
        return ImageLimits(self.max_file_mb, self.max_megapixels, self.transparent, self.stretch)

    def ingestion(self, bucket_boundaries: dict[str, list[float]]) -> IngestionConfig:
        """The settings that determine the examples; a changed bound on the data, say, must not recompute them."""
        own = {"bucket_boundaries", "splits", "least_classes"}
        names = {field.name for field in dataclasses.fields(IngestionConfig)} - own
        return IngestionConfig(
            **{name: getattr(self, name) for name in names},
            splits={split: self.splits[split] for split in SPLITS},  # hash buckets are counted in this order
            bucket_boundaries=bucket_boundaries,
        )

    def regressions(self, bucket_boundaries: dict[str, list[float]]) -> IngestionConfig:
        """How `evaluation.regressions` is read: like the data, except that every image counts, whatever its class."""
        return dataclasses.replace(
            self.ingestion(bucket_boundaries),
            layout="auto",
            window=1,
            metadata=None,
            columns={},
            group_by=None,
            near_duplicates=None,
            min_class_images=1,
            small_classes="refuse",
            least_classes=1,
        )

    def __post_init__(self) -> None:
        require(bool(self.images.strip()), "images is empty; it must name the folder of the images")
        given = ", ".join(self.splits) or "none"
        wanted = f"splits must give a positive number for each of {', '.join(SPLITS)}; it has {given}"
        require(set(self.splits) == set(SPLITS), wanted)
        known = ("file_name", "label", "split")
        require(set(self.columns) <= set(known), f"columns: known are {', '.join(known)}")
        require(
            self.group_by is None or self.metadata is not None, "group_by names a column, but metadata is not given"
        )
        require(
            all(glob.strip("! ") for glob in self.ignore), 'ignore holds an empty pattern; give globs, as ["*.bak"]'
        )
        _, pattern = split_pattern(self.images)
        require(
            bool(pattern) or (self.span == "latest" and self.window == 1),
            f"span and window choose among the folders of a pattern such as p/day-{{SPAN}}; images is {self.images!r}",
        )
