"""The two Beam passes from listed files to TFRecords of tf.Examples in their splits, a list of rejects, and facts.

The first reads and decodes each file, once; the second moves its Example to the split that was decided between them,
when all pictures were known. TFX's ExampleGens shuffle whole examples before they write them, which on the DirectRunner
holds the data set in memory (`tfx.components.example_gen.write_split.WriteSplit`). Here only paths are shuffled; each
image goes through a pass inside one fused stage, so memory does not grow with the images.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.util import ReshufflePerKey
from tfx.dsl.io import fileio

from components.ingestion import image_records, slice_features
from components.ingestion.image_folder import read_file
from components.ingestion.image_layout import TFRECORDS, ListedFile, Listing
from components.ingestion.image_reading import ReadImage, RejectedError, read_image
from components.ingestion.image_splits import Facts
from components.ingestion.slice_features import Edges
from core import slices as slice_names
from core import tfrecords
from core.image_limits import DEFAULT_LIMITS, ImageLimits
from core.progress import ProgressCounter

_FACTS, _REJECTED = "facts", "rejected"
_IMAGES = "images"


class Ingest(beam.PTransform):
    """The first pass: reads every file once; writes its tf.Example, or its reason into the rejects.

    In: a pipeline. Out: nothing; the files in the scratch folder are its effect: TFRecords (uncompressed: images are
    compressed already, and gzip would take as long as decoding), and JSON lines of `Facts` and of rejects.
    """

    def __init__(
        self, listing: Listing, group_by: str, scratch: str, edges: Edges, limits: ImageLimits = DEFAULT_LIMITS
    ) -> None:
        """Says what to read and where to write.

        Args:
            listing: what there is.
            group_by: the column of its metadata whose value goes into the facts, or "".
            scratch: a folder, for `read_facts`, `read_rejects` and `Distribute`.
            edges: of the buckets that statistics fall into.
            limits: what is over them is a reject.
        """
        super().__init__()
        self._limits = limits
        self._listing = listing
        self._group_by = group_by
        self._scratch = scratch
        self._edges = edges

    def expand(self, pipeline: beam.Pipeline) -> beam.pvalue.PDone:  # noqa: D102
        read = (
            pipeline
            | "Files" >> beam.Create(_shuffled(self._listing), reshuffle=False)
            | "Spread" >> ReshufflePerKey()
            | "WithoutKey" >> beam.Values()
            | "ReadImages"
            >> beam.ParDo(ReadImages(self._listing, self._group_by, self._edges, self._limits)).with_outputs(
                _FACTS, _REJECTED, main=_IMAGES
            )
        )
        _ = read[_IMAGES] | "WriteImages" >> beam.io.WriteToTFRecord(f"{self._scratch}/{_IMAGES}")
        for name in (_FACTS, _REJECTED):
            _ = (
                read[name]
                | f"ToJson[{name}]" >> beam.Map(json.dumps, ensure_ascii=False)
                | f"Write[{name}]" >> beam.io.WriteToText(f"{self._scratch}/{name}")
            )
        return beam.pvalue.PDone(pipeline)


class ReadImages(beam.DoFn):
    """Reads each file once.

    In: a file and its metadata. Out: tf.Examples, serialised; to the output `facts` an image's `Facts`; to `rejected`
    what cannot be used: {"path", "label", "stage", "reason"}.
    """

    def __init__(self, listing: Listing, group_by: str, edges: Edges, limits: ImageLimits) -> None:
        self._edges, self._limits = edges, limits
        self._folder = listing.folder
        self._names = listing.names if listing.layout == TFRECORDS else None
        self._group_by = group_by
        self._total = None if self._names else len(listing.files)

    def setup(self) -> None:  # noqa: D102
        self._progress = ProgressCounter(self._total, "images")

    def process(self, element: tuple[ListedFile, dict[str, str]]) -> Iterator[bytes | TaggedOutput]:  # noqa: D102
        file, extra = element
        for image_file, data in self._images(file):
            try:
                if image_file.problem:
                    raise RejectedError("find", image_file.problem)
                data = read_file(self._folder, file.path, self._limits) if data is None else data
                image = read_image(data, self._limits)
            except RejectedError as error:
                reject = {"path": image_file.path, "label": image_file.label}
                yield TaggedOutput(_REJECTED, reject | {"stage": error.stage, "reason": error.reason})
            else:
                group = extra.get(self._group_by, "")
                yield TaggedOutput(_FACTS, Facts.of(image_file.path, image_file.label, file.split, group, image))
                yield make_example(image_file, image, extra, self._edges).SerializeToString()
            self._progress.add(1)

    def _images(self, file: ListedFile) -> Iterator[tuple[ListedFile, bytes | None]]:
        """The file itself; or each image in it, with its bytes."""
        if self._names is None or file.problem:
            yield file, None
            return
        for record in image_records.read_records(self._folder, file.path, self._names):
            yield ListedFile(record.path, record.label, "", record.problem, file.split), record.data


class Distribute(beam.PTransform):
    """The second pass: copies the tf.Examples that `Ingest` wrote into their splits.

    In: a pipeline. Out: nothing; the splits' TFRecords are its effect.
    """

    def __init__(self, scratch: str, splits_file: str, split_uris: dict[str, str], total: int) -> None:
        """Says where things are.

        Args:
            scratch: `Ingest`'s.
            splits_file: JSON, path -> split.
            split_uris: name -> folder of the TFRecords.
            total: number of images, for the progress.
        """
        super().__init__()
        self._shards = tfrecords.find(f"{scratch}/{_IMAGES}*")
        self._splits_file = splits_file
        self._split_uris = split_uris
        self._total = total

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
    """A serialised tf.Example to the output named like its split."""

    def __init__(self, splits_file: str, total: int) -> None:
        self._splits_file = splits_file
        self._total = total

    def setup(self) -> None:
        with fileio.open(self._splits_file) as file:
            self._splits: dict[str, str] = json.loads(file.read())
        self._progress = ProgressCounter(self._total, "images", "into their splits")

    def process(self, serialized: bytes) -> Iterator[TaggedOutput]:
        features = tf.train.Example.FromString(serialized).features.feature
        yield TaggedOutput(self._splits[features["image/path"].bytes_list.value[0].decode()], serialized)
        self._progress.add(1)


def make_example(file: ListedFile, image: ReadImage, extra: dict[str, str], edges: Edges) -> tf.train.Example:
    """The raw tf.Example of one image; every feature has one value.

    Args:
        file: where it was found, and its label.
        image: what was read.
        extra: the metadata's columns.
        edges: of the buckets that statistics fall into.
    """

    def text(value: bytes | str) -> tf.train.Feature:
        encoded = value.encode() if isinstance(value, str) else value
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))

    def number(value: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    slices = {**slice_features.describe(image, edges), **extra}
    features = {
        "image/encoded": text(image.encoded),
        "image/format": text(image.format),
        "image/width": number(image.width),
        "image/height": number(image.height),
        "image/sha256": text(image.sha256),
        "image/path": text(file.path),
        "label": text(file.label),
        **{
            f"image/{name}": tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
            for name, value in image.statistics.items()
        },
        **{slice_names.feature_of(name): text(value) for name, value in slices.items()},
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


def read_facts(scratch: str) -> Iterator[Facts]:
    """What `Ingest` wrote of the images, in no order."""
    return (Facts(*values) for values in _lines(f"{scratch}/{_FACTS}"))


def read_rejected(scratch: str) -> Iterator[dict[str, str]]:
    """What `Ingest` wrote of the files that cannot be used, in no order."""
    return _lines(f"{scratch}/{_REJECTED}")


def _lines(prefix: str) -> Iterator[Any]:
    for path in sorted(fileio.glob(f"{prefix}*")):
        with fileio.open(path) as file:
            yield from (json.loads(line) for line in file)


def _shuffled(listing: Listing) -> list[tuple[str, tuple[ListedFile, dict[str, str]]]]:
    """Keyed and ordered by the hash of the path: the classes mixed, and the same order in every run."""
    keyed = sorted((hashlib.sha256(file.path.encode()).hexdigest(), file) for file in listing.files)
    return [(key, (file, listing.metadata.values(file.path))) for key, file in keyed]
