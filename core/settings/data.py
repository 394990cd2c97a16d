"""The settings `data`: where the images come from, how they are split, and what they must keep to."""

import dataclasses
from typing import Annotated, Literal

from msgspec import Meta

from core.image_limits import DEFAULT_LIMITS, FileMB, ImageLimits, Megapixels, SensorBits, Transparent
from core.settings.checks import AtLeast0, AtLeast1, FilePath, Fraction, require
from core.uris import split_pattern

DIGITS = "sklearn-digits"
"""The value of `data.images` that stands for scikit-learn's handwritten digits, which need no network."""

TFDS = "tfds:"
"""What a data set of TensorFlow Datasets begins with in `data.images`: `tfds:tf_flowers`."""

ImagesPath = Annotated[str, Meta(extra_json_schema={"format": "path", "examples": [DIGITS]})]

MAX_HASH_DISTANCE = 12
"""Bits in which the perceptual hashes of near-duplicates may differ."""

SPLITS = ("train", "eval", "test")


@dataclasses.dataclass(frozen=True)
class NearDuplicates:
    """Which images count as the same.

    Attributes:
        distance: in how many of 64 bits their perceptual hashes may differ.
    """

    distance: Annotated[int, Meta(ge=0, le=MAX_HASH_DISTANCE)] = 6


@dataclasses.dataclass(frozen=True)
class DataBounds:
    """What the data must keep to before anything is trained on them; null demands nothing. docs/data.md explains each.

    Attributes:
        min_class_share: which fraction of train every class must have.
        label_drift: how far any class's share may have moved since the last blessed model's data.
        image_drift: likewise the share of any kind of image: dark ones, small ones, those of a camera.
        split_skew: likewise between train and another split.
        class_changes: how many classes may have appeared or vanished since then.
        leaked: the fraction of eval and test that may be in another split too, where the layout gives the splits.
        shortcut: how well one column alone, such as the format, may tell a class from the others, as balanced accuracy.
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
    """What decides which tf.Examples are made of a data folder; see `DataSettings`.

    Attributes:
        bucket_boundaries: of each statistic of the images, ascending; kept in the schema.
        least_classes: a folder with fewer is refused, as the wrong one.
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
        images: a folder, `gs://` or `s3://` too, or a pattern of such folders, as `photos/day-{SPAN}`; `tfds:<name>`;
            or `sklearn-digits`. docs/data.md shows how a folder may be laid out.
        layout: how the folder is laid out; `auto` finds out, and takes folders within class folders for a mistake.
        span: the last span to read, by its number; `latest` is the latest that exists.
        window: how many spans to read: that one and those before it.
        metadata: name of a CSV or `.jsonl` file in the folder, or of one in each folder of it: a column of file names,
            and more columns to slice by. `metadata.csv`, `.tsv` and `.jsonl` are read in any case, and another table
            that lies alone in the folder, if it says which image is of which class or split.
        columns: what columns of the metadata are called: `file_name`, `label`, `split`; null: there is none. Those that
            are not given are found by the usual names. In TFRecords, `label` and `file_name` are the keys of the label
            and of the encoded image.
        group_by: a column of the metadata whose equal values must share a split, such as a patient's number.
        ignore: globs of files and folders to pass over, relative to the data folder, as in a .gitignore file: `*.bak`
            and `old/` at any depth, `/train/old/` or `**/old/*.png` by their paths.
        links: which symbolic links are followed: `refuse` stops at any; `inside` follows those that stay in the data
            folder, stops at a folder that leads out of it, and takes a file that does for a reject; `follow` follows
            all, and the run names the folders they lead to.
        splits: hash buckets of train, eval and test; an image's bucket depends on its bytes alone. Splits that the
            layout gives are kept instead.
        near_duplicates: which images share a split because they show the same; null: only identical ones.
        min_class_images: how many images every class must have in train; where the splits are made here, so many of
            a class are put there first.
        small_classes: what becomes of classes with fewer: `refuse` stops the run, `leave_out` trains without them.
        max_file_mb: a larger file is a reject, unread; at most 512, and `serving.server.max_message_mb`.
        max_megapixels: so is an image whose header claims more, undecoded; the exported model refuses it too. At most
            178, and TensorFlow takes some 16 bytes of memory for each pixel.
        transparent: what transparent pixels are laid on, in the exported model too; `drop` takes the colors that are
            stored beneath them.
        stretch: how many bits a sensor fills where its images have 16, such as 12: those whose values all fit are
            scaled from these to the network's 8, in the exported model too; null: from all 16.
        max_rejected: the run stops if a larger fraction of the files than this cannot be used.
        bounds: what the data must keep to before anything is trained on them.
        schema: the reviewed schema of the examples; the checkout's `schemas/<name>.pbtxt` where it is not given.
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
        """What of these settings decides the examples: another bound on the data does not make them anew."""
        own = {"bucket_boundaries", "splits", "least_classes"}
        names = {field.name for field in dataclasses.fields(IngestionConfig)} - own
        return IngestionConfig(
            **{name: getattr(self, name) for name in names},
            splits={split: self.splits[split] for split in SPLITS},  # hash buckets are counted in this order
            bucket_boundaries=bucket_boundaries,
        )

    def regressions(self, bucket_boundaries: dict[str, list[float]]) -> IngestionConfig:
        """How `evaluation.regressions` is read: as these data are, but that every image counts, whatever its class."""
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
        require(set(self.splits) == set(SPLITS), f"splits must give a positive number for each of {', '.join(SPLITS)}")
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
