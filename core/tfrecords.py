"""The TFRecords of an Examples artifact: the files of a split, and their records, streamed.

The records of a split have a fixed order on every Beam engine: that of the file names, and within a file that of
writing. Imports nothing but TensorFlow, since the serving probe, which stands in for a model server, uses it too.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import tensorflow as tf
from tensorflow.python.lib.io import tf_record  # its random reader is public in all but its name

random_reader = tf_record.tf_record_random_reader
"""Opens an uncompressed file; reading raises tf.errors.OpError if it is damaged or gone."""


def find(*patterns: str) -> list[str]:
    """The files that match any of the patterns, local or remote, sorted by path: the order in which they are read."""
    return sorted(path for pattern in patterns for path in tf.io.gfile.glob(pattern))


def dataset(files: Sequence[str]) -> tf.data.Dataset:
    """The serialized records, string scalars, of one or more files; either all or none are compressed (`.gz`)."""
    compression = "GZIP" if files[0].endswith(".gz") else None
    return tf.data.TFRecordDataset(list(files), compression_type=compression)


def read(*patterns: str, most: int | None = None) -> Iterator[bytes]:
    """The serialized records of the matching files, one at a time; at most `most` if given."""
    files = find(*patterns)
    if files:
        yield from dataset(files).take(-1 if most is None else most).as_numpy_iterator()


def shard(prefix: str, number: int, of: int) -> str:
    """The path of one shard of a split, named as Beam names shards."""
    return f"{prefix}-{number:05}-of-{of:05}"


class Writer:
    """Writes an uncompressed file of records that appears complete when it is closed, even if two workers write it.

    Until then it is in the folder `UNFINISHED` of the artifact, beside the split's folder.
    """

    UNFINISHED = ".unfinished"

    def __init__(self, path: str) -> None:
        self.count = 0
        self._path = path
        folder = f"{path.rsplit('/', 2)[0]}/{self.UNFINISHED}"
        for needed in (folder, path.rpartition("/")[0]):
            tf.io.gfile.makedirs(needed)
        self._unfinished = f"{folder}/{uuid.uuid4().hex}"
        self._file = tf.io.TFRecordWriter(self._unfinished)

    def write(self, record: bytes) -> None:
        """Appends a record."""
        self._file.write(record)
        self.count += 1

    def close(self) -> None:
        """Closes the file and gives it its name."""
        self._file.close()
        tf.io.gfile.rename(self._unfinished, self._path, overwrite=True)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            self._file.close()
            tf.io.gfile.remove(self._unfinished)


def clear_unfinished(artifact: str) -> None:
    """Deletes unfinished files that lost workers left under an artifact's URI; call it when nothing writes any more."""
    folder = f"{artifact}/{Writer.UNFINISHED}"
    if tf.io.gfile.exists(folder):
        tf.io.gfile.rmtree(folder)


def with_offsets(reader: Any) -> Iterator[tuple[int, bytes]]:
    """All records of a `random_reader`'s file, each with the offset to read it again."""
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
    """Whether a serialized tf.Example has no value for a feature, of any type."""
    found = tf.train.Example.FromString(record).features.feature
    kind = found[feature].WhichOneof("kind") if feature in found else None
    return kind is None or not getattr(found[feature], kind).value


def text(value: bytes) -> str:
    """A name or path as text; bytes that are not UTF-8 are escaped."""
    return value.decode("utf-8", "backslashreplace")
