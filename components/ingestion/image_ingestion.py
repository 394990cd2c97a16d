"""The two Beam passes from listed files to TFRecords of tf.Examples in their splits, a list of rejects, and facts.

The first reads and decodes each file, once; the second moves its Example to the split that was decided between them,
when all images were known. TFX's ExampleGens shuffle whole examples before they write them, which on the DirectRunner
holds the data set in memory (`tfx.components.example_gen.write_split.WriteSplit`). Here only paths are shuffled; each
image goes through a pass inside one fused stage, so memory does not grow with the images.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TypeVar

import apache_beam as beam
import msgspec
import tensorflow as tf
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.util import ReshufflePerKey
from tfx.dsl.io import fileio

from components.ingestion import image_records, slice_features
from components.ingestion.image_folder import ListedFile, read_file
from components.ingestion.image_layout import TFRECORDS, Listing
from components.ingestion.image_reading import ReadImage, RejectedError, read_image
from components.ingestion.image_splits import ImageFacts
from components.ingestion.slice_features import BucketBoundaries
from core import examples, tfrecords
from core import slices as slice_names
from core.artifacts.ingest_record import Reject
from core.progress import ProgressCounter
from core.settings.data import IngestionConfig

_FACTS, _REJECTED = "facts", "rejected"
_IMAGES = "images"

T = TypeVar("T")


class Ingest(beam.PTransform):
    """The first pass: reads every file once; writes its tf.Example, or its reason into the rejects.

    In: a pipeline. Out: nothing; the files in the scratch folder are its effect: TFRecords (uncompressed: images are
    compressed already, and gzip would take as long as decoding), and JSON lines of `ImageFacts` and of `Reject`s.
    """

    def __init__(self, listing: Listing, config: IngestionConfig, scratch: str) -> None:
        super().__init__()
        self._listing, self._config, self._scratch = listing, config, scratch

    def expand(self, pipeline: beam.Pipeline) -> beam.pvalue.PDone:  # noqa: D102
        read = (
            pipeline
            | "Files" >> beam.Create(_shuffled(self._listing), reshuffle=False)
            | "Spread" >> ReshufflePerKey()
            | "WithoutKey" >> beam.Values()
            | "ReadImages"
            >> beam.ParDo(ReadImages(self._listing, self._config)).with_outputs(_FACTS, _REJECTED, main=_IMAGES)
        )
        _ = read[_IMAGES] | "WriteImages" >> beam.io.WriteToTFRecord(f"{self._scratch}/{_IMAGES}")
        for name in (_FACTS, _REJECTED):
            _ = (
                read[name]
                | f"ToJson[{name}]" >> beam.Map(msgspec.json.encode)
                | f"Write[{name}]" >> beam.io.WriteToText(f"{self._scratch}/{name}")
            )
        return beam.pvalue.PDone(pipeline)


class ReadImages(beam.DoFn):
    """Reads each file once.

    In: a file and its metadata. Out: tf.Examples, serialized; to the output `facts` an image's `ImageFacts`; to
    `rejected` a `Reject` of what cannot be used.
    """

    def __init__(self, listing: Listing, config: IngestionConfig) -> None:
        self._config = config
        self._folder = listing.folder
        self._names = listing.names if listing.layout == TFRECORDS else None
        self._total = None if self._names else len(listing.files)

    def setup(self) -> None:  # noqa: D102
        self._progress = ProgressCounter(self._total, "images")

    def process(self, element: tuple[ListedFile, dict[str, str]]) -> Iterator[bytes | TaggedOutput]:  # noqa: D102
        file, extra = element
        limits = self._config.limits
        for found, data in self._images(file):
            try:
                if found.problem:
                    raise RejectedError("find", found.problem)
                image = read_image(read_file(self._folder, file.path, limits) if data is None else data, limits)
            except RejectedError as error:
                yield TaggedOutput(_REJECTED, Reject(found.path, found.label, error.stage, error.reason))
            else:
                group = extra.get(self._config.group_by or "", "")
                facts = (found.path, found.label, file.split, group, image.sha256, image.pixels)
                yield TaggedOutput(_FACTS, ImageFacts(*facts, *(image.likeness or ())))
                yield make_example(found, image, extra, self._config.bucket_boundaries).SerializeToString()
            self._progress.add(1)

    def _images(self, file: ListedFile) -> Iterator[tuple[ListedFile, bytes | None]]:
        """The file itself; or each image in it, with its bytes."""
        if self._names is None or file.problem:
            yield file, None
            return
        for record in image_records.read_records(self._folder, file.path, self._names):
            found = ListedFile(record.path, problem=record.problem, label=record.label, split=file.split)
            yield found, record.data


class Distribute(beam.PTransform):
    """The second pass: copies the tf.Examples that `Ingest` wrote into their splits.

    In: a pipeline. Out: nothing; the splits' TFRecords are its effect.
    """

    def __init__(self, scratch: str, splits: dict[str, str], split_uris: dict[str, str]) -> None:
        """Writes `splits`, path -> split, for the workers; `split_uris` are the folders of the splits' TFRecords."""
        super().__init__()
        self._shards = tfrecords.find(f"{scratch}/{_IMAGES}*")
        self._splits_file = f"{scratch}/splits.json"
        with fileio.open(self._splits_file, "wb") as file:
            file.write(msgspec.json.encode(splits))
        self._split_uris = split_uris
        self._total = len(splits)

    def expand(self, pipeline: beam.Pipeline) -> beam.pvalue.PDone:  # noqa: D102
        routed = (
            pipeline
            | "Shards" >> beam.Create(self._shards)
            | "ReadShards" >> beam.FlatMap(tfrecords.read)
            | "Route" >> beam.ParDo(_Route(self._splits_file, self._total)).with_outputs(*self._split_uris)
        )
        for split, uri in self._split_uris.items():
            _ = routed[split] | f"Write[{split}]" >> beam.io.WriteToTFRecord(f"{uri}/data_tfrecord")
        return beam.pvalue.PDone(pipeline)


class _Route(beam.DoFn):
    """A serialized tf.Example to the output named like its split."""

    def __init__(self, splits_file: str, total: int) -> None:
        self._splits_file = splits_file
        self._total = total

    def setup(self) -> None:
        with fileio.open(self._splits_file) as file:
            self._splits: dict[str, str] = json.loads(file.read())
        self._progress = ProgressCounter(self._total, "images", "into their splits")

    def process(self, serialized: bytes) -> Iterator[TaggedOutput]:
        yield TaggedOutput(self._splits[tfrecords.values(serialized)[examples.PATH].decode()], serialized)
        self._progress.add(1)


def make_example(
    file: ListedFile, image: ReadImage, extra: dict[str, str], boundaries: BucketBoundaries
) -> tf.train.Example:
    """The raw tf.Example of one image, whose metadata's columns are `extra`; every feature has one value."""
    slices = {**slice_features.describe(image, boundaries), **extra}
    values: dict[str, bytes | str | int | float] = {
        examples.IMAGE: image.encoded,
        examples.FORMAT: image.format,
        examples.WIDTH: image.width,
        examples.HEIGHT: image.height,
        examples.SHA256: image.sha256,
        examples.PATH: file.path,
        examples.LABEL: file.label,
        **{examples.statistic(name): value for name, value in image.statistics.items()},
        **{slice_names.feature_of(name): value for name, value in slices.items()},
    }
    return tf.train.Example(features=tf.train.Features(feature={key: _feature(v) for key, v in values.items()}))


def _feature(value: bytes | str | int | float) -> tf.train.Feature:
    if isinstance(value, float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    encoded = value.encode() if isinstance(value, str) else value
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))


def read_results(scratch: str) -> tuple[list[ImageFacts], list[Reject]]:
    """What `Ingest` wrote of the images, and of the files that cannot be used, by path."""
    return sorted(_lines(f"{scratch}/{_FACTS}", ImageFacts)), sorted(_lines(f"{scratch}/{_REJECTED}", Reject))


def _lines(prefix: str, of: type[T]) -> Iterator[T]:
    for path in fileio.glob(f"{prefix}*"):
        with fileio.open(path) as file:
            yield from (msgspec.json.decode(line, type=of) for line in file)


def _shuffled(listing: Listing) -> list[tuple[str, tuple[ListedFile, dict[str, str]]]]:
    """Keyed and ordered by the hash of the path: the classes mixed, and the same order in every run."""
    keyed = sorted((hashlib.sha256(file.path.encode()).hexdigest(), file) for file in listing.files)
    return [(key, (file, listing.metadata.values(file.path))) for key, file in keyed]
