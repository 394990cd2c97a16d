"""The Beam pass from listed image files to TFRecords of tf.Examples, a list of rejects, and counts.

TFX's ExampleGens shuffle whole examples before they write them, which on the DirectRunner holds the data set in memory
(`tfx.components.example_gen.write_split.WriteSplit`). Here only paths are shuffled; each image goes from its file to
its TFRecord inside one fused stage, so memory does not grow with the data.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.util import ReshufflePerKey
from tfx.dsl.io import fileio

from components import slice_features
from components.image_folder import ListedFile, read_file
from components.image_metadata import Metadata
from components.image_reading import ReadImage, RejectedError, read_image
from components.progress_counter import ProgressCounter

REJECTS_FILE = "rejects.jsonl"
"""A JSON object a line with `path`, `stage` and `reason`, sorted by path."""

COUNTS_FILE = "counts.json"
"""{"found", "read", "rejected", <split>..., "classes": {<name>: {<split>..., "rejected"}}}."""

_REJECTED = "rejected"
_OUTCOMES = "outcomes"


class Ingest(beam.PTransform):
    """Reads every file once; writes its tf.Example into its split, or its reason into the rejects.

    In: a pipeline. Out: nothing; the TFRecords (uncompressed: images are compressed already, and gzip would take as
    long as decoding) and the two files are its effect.
    """

    def __init__(
        self,
        folder: str,
        files: list[ListedFile],
        metadata: Metadata,
        splits: dict[str, int],
        group_by: str,
        split_uris: dict[str, str],
        rejects_uri: str,
    ) -> None:
        """Says what to read and where to write.

        Args:
            folder: the data folder.
            files: what is in it.
            metadata: further columns, which become slices.
            splits: name -> weight.
            group_by: a column whose value decides the split, or "" for the picture's hash.
            split_uris: name -> folder of the TFRecords.
            rejects_uri: folder of `REJECTS_FILE` and `COUNTS_FILE`.
        """
        super().__init__()
        self._files = files
        self._metadata = metadata
        self._read = ReadImages(folder, splits, group_by, len(files))
        self._split_uris = split_uris
        self._rejects_uri = rejects_uri

    def expand(self, pipeline: beam.Pipeline) -> beam.pvalue.PDone:  # noqa: D102
        read = (
            pipeline
            | "Files" >> beam.Create(_shuffled(self._files, self._metadata), reshuffle=False)
            | "Spread" >> ReshufflePerKey()
            | "WithoutKey" >> beam.Values()
            | "ReadImages" >> beam.ParDo(self._read).with_outputs(*self._split_uris, _REJECTED, _OUTCOMES)
        )
        for split, uri in self._split_uris.items():
            _ = read[split] | f"Write[{split}]" >> beam.io.WriteToTFRecord(f"{uri}/data_tfrecord")
        _ = (
            read[_REJECTED]
            | "AllRejects" >> beam.combiners.ToList()
            | "WriteRejects" >> beam.Map(_write_rejects, f"{self._rejects_uri}/{REJECTS_FILE}")
        )
        _ = (
            read[_OUTCOMES]
            | "Count" >> beam.combiners.Count.PerElement()
            | "AllCounts" >> beam.combiners.ToList()
            | "WriteCounts" >> beam.Map(_write_counts, f"{self._rejects_uri}/{COUNTS_FILE}", list(self._split_uris))
        )
        return beam.pvalue.PDone(pipeline)


class ReadImages(beam.DoFn):
    """Reads each file once.

    In: a file and its metadata. Out: to the output named like its split, its tf.Example, serialised; or to `rejected`,
    a line of `REJECTS_FILE`. And for every file, to `outcomes`, its class and the name of that output.
    """

    def __init__(self, folder: str, splits: dict[str, int], group_by: str, total: int) -> None:
        self._folder = folder
        self._names = list(splits)
        self._ends = list(itertools.accumulate(splits.values()))
        self._group_by = group_by
        self._total = total

    def setup(self) -> None:  # noqa: D102
        self._progress = ProgressCounter(self._total, "images")

    def process(self, element: tuple[ListedFile, dict[str, str]]) -> Iterator[TaggedOutput]:  # noqa: D102
        file, extra = element
        try:
            if file.problem:
                raise RejectedError("find", file.problem)
            image = read_image(read_file(self._folder, file.path))
        except RejectedError as error:
            outcome = _REJECTED
            line = {"path": file.path, "stage": error.stage, "reason": error.reason}
            yield TaggedOutput(_REJECTED, json.dumps(line, ensure_ascii=False))
        else:
            outcome = self._split(image.sha256, extra)
            yield TaggedOutput(outcome, make_example(file, image, extra).SerializeToString())
        yield TaggedOutput(_OUTCOMES, (file.label, outcome))
        self._progress.add(1)

    def _split(self, sha256: str, extra: dict[str, str]) -> str:
        """By the picture's hash alone, so it stays in its split as the data grows; or by its group's, if it has one."""
        group = extra.get(self._group_by, "")
        key = hashlib.sha256(group.encode()).hexdigest() if group else sha256
        return self._names[bisect.bisect(self._ends, int(key, 16) % self._ends[-1])]


def make_example(file: ListedFile, image: ReadImage, extra: dict[str, str]) -> tf.train.Example:
    """The raw tf.Example of one image; every feature has one value.

    Args:
        file: where it was found; its folder is the label.
        image: what was read.
        extra: metadata.csv's columns.
    """

    def text(value: bytes | str) -> tf.train.Feature:
        encoded = value.encode() if isinstance(value, str) else value
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))

    def number(value: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    slices = {**slice_features.describe(image), **extra}
    features = {
        "image/encoded": text(image.encoded),
        "image/format": text(image.format),
        "image/width": number(image.width),
        "image/height": number(image.height),
        "image/sha256": text(image.sha256),
        "image/path": text(file.path),
        "label": text(file.label),
        **{f"slice/{name}": text(value) for name, value in slices.items()},
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


def read_counts(rejects_uri: str) -> dict[str, Any]:
    """What `COUNTS_FILE` in that folder holds."""
    with fileio.open(f"{rejects_uri}/{COUNTS_FILE}") as file:
        return json.loads(file.read())


def read_rejects(rejects_uri: str, most: int | None = None) -> list[dict[str, str]]:
    """The first (at most `most`) entries of `REJECTS_FILE` in that folder."""
    with fileio.open(f"{rejects_uri}/{REJECTS_FILE}") as file:
        return [json.loads(line) for line in itertools.islice(file, most)]


def _shuffled(files: list[ListedFile], metadata: Metadata) -> list[tuple[str, tuple[ListedFile, dict[str, str]]]]:
    """Keyed and ordered by the hash of the path: the classes mixed, and the same order in every run."""
    keyed = sorted((hashlib.sha256(file.path.encode()).hexdigest(), file) for file in files)
    return [(key, (file, metadata.values(file.path))) for key, file in keyed]


def _write_rejects(lines: list[str], path: str) -> None:
    with fileio.open(path, "w") as file:
        file.write("".join(f"{line}\n" for line in sorted(lines)))


def _write_counts(outcomes: list[tuple[tuple[str, str], int]], path: str, splits: list[str]) -> None:
    counts = dict.fromkeys(["found", "read", _REJECTED, *splits], 0)
    classes: dict[str, dict[str, int]] = {}
    for (label, outcome), number in sorted(outcomes):
        counts["found"] += number
        counts[outcome] += number
        counts["read"] += number if outcome != _REJECTED else 0
        if label:
            classes.setdefault(label, dict.fromkeys([*splits, _REJECTED], 0))[outcome] += number
    with fileio.open(path, "w") as file:
        file.write(json.dumps({**counts, "classes": classes}, indent=1, ensure_ascii=False))
