"""The TFRecords of an Examples artifact: the files of a split, and their records, streamed.

Imports nothing but TensorFlow: the serving probe, which stands for a model server, reads with it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.lib.io import tf_record  # its random reader is public in all but its name

random_reader = tf_record.tf_record_random_reader
"""Of an uncompressed file; it raises tf.errors.OpError where that is damaged or gone."""


def find(*patterns: str) -> list[str]:
    """The files that match any of the patterns, local or remote, sorted by path: the order in which they are read."""
    return sorted(path for pattern in patterns for path in tf.io.gfile.glob(pattern))


def dataset(files: Sequence[str]) -> tf.data.Dataset:
    """The serialized records, string scalars, of at least one file; all are compressed (`.gz`), or none."""
    compression = "GZIP" if files[0].endswith(".gz") else None
    return tf.data.TFRecordDataset(list(files), compression_type=compression)


def read(*patterns: str, most: int | None = None) -> Iterator[bytes]:
    """The serialized records of the files that match, one at a time; the first `most` of them if that is given."""
    files = find(*patterns)
    if files:
        yield from dataset(files).take(-1 if most is None else most).as_numpy_iterator()


def with_offsets(reader: Any) -> Iterator[tuple[int, bytes]]:
    """All records of a `random_reader`'s file, each with the offset at which the reader finds it again."""
    offset = 0
    while True:
        try:
            record, end = reader.read(offset)
        except IndexError:  # the end of the file
            return
        yield offset, record
        offset = end


def values(record: bytes) -> dict[str, bytes]:
    """The bytes features of a serialized tf.Example, the first value of each; features without any are left out."""
    features = tf.train.Example.FromString(record).features.feature
    return {name: feature.bytes_list.value[0] for name, feature in features.items() if feature.bytes_list.value}


def lacks(record: bytes, feature: str) -> bool:
    """Whether a serialized tf.Example has no value of a feature, of whatever type."""
    found = tf.train.Example.FromString(record).features.feature
    kind = found[feature].WhichOneof("kind") if feature in found else None
    return kind is None or not getattr(found[feature], kind).value


def text(value: bytes) -> str:
    """A name or path as text; what is not UTF-8 is escaped."""
    return value.decode("utf-8", "backslashreplace")
