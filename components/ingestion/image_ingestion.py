"""The two Beam passes from listed files to TFRecords of tf.Examples in their splits, a list of rejects, and facts.

The first pass reads and decodes each file once, on all cores; the second copies its Example to its split, which is
decided in between, when all images are known. TFX's ExampleGens shuffle the examples themselves, which on the
DirectRunner holds the data set in memory (`tfx.components.example_gen.write_split.WriteSplit`). Here, only paths are
shuffled, by their hash, and dealt into chunks; a worker reads a chunk in order into a file of its own. So memory does
not grow with the number of images, and their order is the same on every engine and with any number of workers.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import apache_beam as beam
import msgspec
import tensorflow as tf
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.util import ReshufflePerKey

from components.ingestion import file_names, image_records, parallel, slice_features
from components.ingestion.decoder import Decoder
from components.ingestion.earlier_reads import EarlierReads, Place
from components.ingestion.formats import file_kinds
from components.ingestion.image_folder import ListedFile, read_file, read_head
from components.ingestion.image_reading import HEAD, ReadImage, RejectedError, looks_like_picture, read_image
from components.ingestion.image_splits import Assignment, ImageFacts
from components.ingestion.layouts.listing import TFRECORDS, Listing
from components.ingestion.slice_features import BucketBoundaries
from core import atomic_io, examples, tfrecords
from core import slices as slice_names
from core.artifacts.ingest_record import SAME, ClassCounts, IngestCounts, Oddity, Reject
from core.progress import ProgressCounter
from core.settings.data import SPLITS, IngestionConfig

_FACTS, _REJECTED, _IGNORED = "facts", "rejected", "ignored"
_IMAGES = "images"
_SHOWN = 3  # paths for a remark
_CHUNK = 128  # files that a worker reads into one file
_MOST_CHUNKS = 1024  # more files than that for each are read where there are very many
_BATCH = 64  # images that the threads of a worker process share

_Chunk = list[tuple[ListedFile, dict[str, str], Place | None]]
_Outputs = list[bytes | TaggedOutput]


def ingest(
    pipeline: beam.Pipeline,
    listing: Listing,
    config: IngestionConfig,
    scratch: str,
    earlier: EarlierReads,
    places: Mapping[str, Place],
) -> None:
    """The first pass: reads every file once; writes its tf.Example, or why it is rejected or ignored.

    The results of files that have a `Place` in an earlier run are copied from there.

    The scratch folder gets TFRecords (uncompressed: images are compressed already, and gzip would take as long as
    decoding), and JSON lines of `ImageFacts` and of `Reject`s.
    """
    read = (
        pipeline
        | "Chunks" >> beam.Create(_chunks(listing, places), reshuffle=False)
        | "Spread" >> ReshufflePerKey()
        | "ReadImages"
        >> beam.ParDo(ReadImages(listing, config, earlier, scratch)).with_outputs(_FACTS, _REJECTED, _IGNORED)
    )
    for name in (_FACTS, _REJECTED, _IGNORED):
        lines = read[name] | f"ToJson[{name}]" >> beam.Map(msgspec.json.encode)
        _ = lines | f"Write[{name}]" >> beam.io.WriteToText(f"{scratch}/{name}")


class _Found(NamedTuple):
    file: ListedFile
    extra: dict[str, str]
    content: bytes
    is_file: bool  # and not a record in one


def _length(image: _Found | _Outputs) -> int:
    """In bytes, of what is still to be decoded."""
    return len(image.content) if isinstance(image, _Found) else 0


class ReadImages(beam.DoFn):
    """Writes the tf.Examples of a chunk of files; says what becomes of these: `facts`, `rejected` or `ignored`.

    They are decoded at the same time, on every core of the machine, and written in their order.
    """

    def __init__(self, listing: Listing, config: IngestionConfig, earlier: EarlierReads, scratch: str) -> None:
        self._scratch = scratch
        self._config = config
        self._earlier = earlier
        self._folder = listing.folder
        self._names = listing.names if listing.layout == TFRECORDS else None
        self._total = None if self._names else len(listing.files)

    def setup(self) -> None:  # noqa: D102
        self._progress = ProgressCounter(self._total, "images")
        self._decoder = Decoder(read_image, self._config.limits)

    def teardown(self) -> None:  # noqa: D102
        self._decoder.close()

    def process(self, numbered: tuple[str, _Chunk]) -> Iterator[TaggedOutput]:  # noqa: D102
        number, chunk = numbered
        images = ((found, data, extra, place) for file, extra, place in chunk for found, data in self._images(file))
        with tfrecords.Writer(f"{self._scratch}/{_IMAGES}/{number}") as examples_file:
            found_images = parallel.ordered_map(lambda image: self._find(*image), images)
            for some in parallel.batches(found_images, _BATCH, _length):
                decoded = self._decoder.read([found.content for found in some if isinstance(found, _Found)])
                for found in some:
                    for output in self._described(found, next(decoded)) if isinstance(found, _Found) else found:
                        if isinstance(output, bytes):
                            examples_file.write(output)
                        else:
                            yield output
                    self._progress.add(1)

    def _find(
        self, file: ListedFile, data: bytes | None, extra: dict[str, str], place: Place | None
    ) -> _Found | _Outputs:
        """An image's bytes, or what becomes of it if it has none."""
        if place is not None and (known := self._earlier.read(place)):
            return [TaggedOutput(_FACTS, known[0]), known[1]]
        try:
            if file.problem:
                raise RejectedError("find", file.problem)
            content = read_file(self._folder, file.path, self._config.limits) if data is None else data
        except RejectedError as error:
            return self._rejected(file, data is None, error)
        return _Found(file, extra, content, data is None)

    def _described(self, found: _Found, image: ReadImage | RejectedError) -> _Outputs:
        if isinstance(image, RejectedError):
            return self._rejected(found.file, found.is_file, image)
        file, extra = found.file, found.extra
        group = extra.get(self._config.group_by or "", "")
        alike = image.likeness or (None, b"")
        facts = (file.path, file.label, file.split, group, image.sha256, image.pixels, *alike, image.oddities)
        example = make_example(file, image, extra, self._config.bucket_boundaries)
        return [TaggedOutput(_FACTS, ImageFacts(*facts)), example.SerializeToString()]

    def _rejected(self, file: ListedFile, is_file: bool, error: RejectedError) -> _Outputs:
        if is_file and (reason := self._no_picture(file.path)):
            return [TaggedOutput(_IGNORED, Reject(file.path, file.label, "identify", reason))]
        return [TaggedOutput(_REJECTED, Reject(file.path, file.label, error.stage, error.reason))]

    def _no_picture(self, path: str) -> str:
        """Why an unusable file is not a reject: neither its name nor its content is an image's; "" if it is one."""
        if file_names.claims_picture(path) or image_records.is_record_file(path):
            return ""
        head = read_head(self._folder, path, HEAD)
        if head is None or looks_like_picture(head):
            return ""
        return file_names.no_picture(path, file_kinds.kind_of(head) if head else "empty")

    def _images(self, file: ListedFile) -> Iterator[tuple[ListedFile, bytes | None]]:
        """The file itself; or each image in it, with its bytes."""
        if self._names is None or file.problem:
            yield file, None
            return
        for record in image_records.read_records(self._folder, file.path, self._names, self._config.limits):
            found = ListedFile(record.path, problem=record.problem, label=record.label, split=file.split)
            yield found, record.data


def distribute(pipeline: beam.Pipeline, scratch: str, splits: dict[str, str], split_uris: dict[str, str]) -> None:
    """The second pass: copies the tf.Examples that `ingest` wrote into the TFRecords of their splits.

    `splits` is path -> split, of all that are not left out; `split_uris` are the folders of the splits' TFRecords.
    """
    splits_file = f"{scratch}/splits.json"
    atomic_io.write_text(splits_file, json.dumps(splits))
    files = tfrecords.find(f"{scratch}/{_IMAGES}/*")
    _ = (
        pipeline
        | "Chunks" >> beam.Create([(number, len(files), file) for number, file in enumerate(files)])
        | "Route" >> beam.ParDo(_Route(splits_file, len(splits), split_uris))
    )


class _Route(beam.DoFn):
    """Copies each tf.Example of a file into the file of its split, in order."""

    def __init__(self, splits_file: str, total: int, split_uris: dict[str, str]) -> None:
        self._splits_file = splits_file
        self._total = total
        self._uris = split_uris

    def setup(self) -> None:
        self._splits: dict[str, str] = json.loads(atomic_io.read_text(self._splits_file))
        self._progress = ProgressCounter(self._total, "images", "into their splits")

    def process(self, chunk: tuple[int, int, str]) -> None:
        number, chunks, file = chunk
        writers: dict[str, tfrecords.Writer] = {}
        with contextlib.ExitStack() as open_writers:

            def writer(split: str) -> tfrecords.Writer:
                if split not in writers:
                    path = tfrecords.shard(f"{self._uris[split]}/data_tfrecord", number, chunks)
                    writers[split] = open_writers.enter_context(tfrecords.Writer(path))
                return writers[split]

            for split in self._uris if number == 0 else ():  # each has a file, if an empty one
                writer(split)
            for serialized in tfrecords.dataset([file]).as_numpy_iterator():
                wanted = self._splits.get(tfrecords.values(serialized)[examples.PATH].decode())
                if wanted is not None:
                    writer(wanted).write(serialized)
                self._progress.add(1)


def make_example(
    file: ListedFile, image: ReadImage, extra: dict[str, str], boundaries: BucketBoundaries
) -> tf.train.Example:
    """The raw tf.Example of one image, with the metadata columns `extra`; every feature has one value."""
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


def read_results(scratch: str) -> tuple[list[ImageFacts], list[Reject], list[Reject]]:
    """What `ingest` wrote about the images, the files that cannot be used, and those that are not images."""
    facts = sorted(msgspec.json.decode(line, type=ImageFacts) for line in _lines(f"{scratch}/{_FACTS}"))
    rejects, ignored = (
        sorted(msgspec.json.decode(line, type=Reject) for line in _lines(f"{scratch}/{name}"))
        for name in (_REJECTED, _IGNORED)
    )
    return facts, rejects, ignored


def _lines(prefix: str) -> Iterator[str]:
    for path in tf.io.gfile.glob(f"{prefix}*"):
        with tf.io.gfile.GFile(path) as file:
            yield from file


def count(
    listing: Listing,
    facts: Sequence[ImageFacts],
    rejects: Sequence[Reject],
    assignment: Assignment,
    ignored: Sequence[Reject] = (),
) -> IngestCounts:
    """Counts what became of the files; `ignored` are the listed files that are not images.

    Raises ValueError unless each was exactly one of decoded, rejected and ignored.
    """
    ended = len(rejects) + len(facts) + len(ignored)
    listed = ended if listing.layout == TFRECORDS else len(listing.files)
    if ended != listed:
        raise ValueError(
            f"{listed} files were listed; {len(facts)} were read, {len(rejects)} rejected and {len(ignored)} ignored"
        )
    left_out = "left out"
    outcomes = collections.Counter((image.label, assignment.splits.get(image.path, left_out)) for image in facts)
    outcomes.update((reject.label, "") for reject in rejects if reject.label)
    labels = {label for label, _ in outcomes} | {file.label for file in ignored if file.label}
    classes = {
        label: ClassCounts(
            {split: outcomes[label, split] for split in SPLITS}, outcomes[label, ""], outcomes[label, left_out]
        )
        for label in sorted(labels)
    }
    passed = [*listing.ignored, *ignored]
    double = {path for group in assignment.duplicates if group.kind in SAME for path in group.paths[1:]}
    return IngestCounts(
        found=len(listing.ignored) + listed,
        ignored=len(passed),
        rejected=len(rejects),
        left_out=len(assignment.left_out),
        read=len(assignment.splits),
        splits={split: sum(counts.splits[split] for counts in classes.values()) for split in SPLITS},
        duplicates=len(double),
        layout=listing.layout,
        given=list(listing.given),
        classes=classes,
        ignored_by=dict(collections.Counter(one.reason for one in passed).most_common()),
        linked_to=list(listing.folder.roots),
        remarks=list(listing.remarks),
        oddities=_oddities(facts),
    )


def _oddities(facts: Iterable[ImageFacts]) -> dict[str, Oddity]:
    found: dict[str, dict[str, int]] = {}
    for image in facts:
        for name, value in image.oddities.items():
            found.setdefault(name, {})[image.path] = value
    return {name: Oddity(len(images), max(images.values()), sorted(images)[:_SHOWN]) for name, images in found.items()}


def content_hash(facts: Iterable[ImageFacts]) -> str:
    """SHA-256 (hexadecimal) of every image's path, content and class: the same for any copy of the data."""
    content = hashlib.sha256()
    for image in sorted((image.path, image.sha256, image.label) for image in facts):
        content.update(f"{json.dumps(image)}\n".encode())
    return content.hexdigest()


def _chunks(listing: Listing, places: Mapping[str, Place]) -> list[tuple[str, _Chunk]]:
    """The files in the order of their paths' hashes, which mixes the classes and is the same in every run."""
    files = sorted(listing.files, key=lambda file: hashlib.sha256(file.path.encode()).digest())
    size = 1 if listing.layout == TFRECORDS else max(_CHUNK, math.ceil(len(files) / _MOST_CHUNKS))
    chunks = [files[start : start + size] for start in range(0, len(files), size)]
    return [
        (f"{number:08}", [(file, listing.metadata.values(file.path), places.get(file.path)) for file in chunk])
        for number, chunk in enumerate(chunks)
    ]
