"""TFRecords of tf.Examples as a source of images: those of others, and the folders that TensorFlow Datasets prepares.

A folder of TensorFlow Datasets holds TFRecords and says beside them where in an Example image and label are, and how
integer labels are called (https://www.tensorflow.org/datasets/external_tfrecord): so reading one needs no such package.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import google_crc32c

from components.ingestion.image_folder import open_file, read_text
from components.ingestion.image_reading import RejectedError
from core.errors import InputError

LABELS_FILE = "labels.txt"  # what integer labels are called: a name a line, the first is that of 0

_TFDS_INFO, _TFDS_LABELS = "dataset_info.json", ".labels.txt"
_TFDS_FILES = (_TFDS_INFO, "features.json")
_RECORDS = ".tfrecord"
_MAX_RECORD = 2**31  # bytes: a tf.Example, as any protocol buffer, has fewer
_MASK = 0xA282EAD8  # of the checksums
_DAMAGED = (ValueError, EOFError, zlib.error, gzip.BadGzipFile)  # what `_records` raises


@dataclasses.dataclass(frozen=True)
class Names:
    """Where in an Example image and label are, and how integer labels are called.

    Attributes:
        image: keys of the encoded image; the first that an Example has counts.
        labels: names of the labels 0, 1, …; none if labels are text.
    """

    image: tuple[str, ...] = ("image/encoded", "image")
    label: str = "label"
    labels: tuple[str, ...] = ()


class Record(NamedTuple):
    """One image of a TFRecord file, or what is wrong with it; the path ends in `#` and the record's number, from 0."""

    path: str
    label: str
    data: bytes
    problem: str = ""


def is_record_file(path: str) -> bool:
    """Whether a name is that of a TFRecord file: `x.tfrecord`, `x.tfrecords`, `x.tfrecord-00000-of-00004`, `….gz`."""
    return _RECORDS in path.rsplit("/", 1)[-1].lower()


def split_in_name(path: str, splits: Mapping[str, str]) -> str:
    """The split that names the first folder or the file, as `flowers-train.tfrecord-00000-of-00004`; else ""."""
    folder, slash, _ = path.partition("/")
    if slash and folder.lower() in splits:
        return splits[folder.lower()]
    words = re.split(r"[-_.]", path.rsplit("/", 1)[-1].lower().split(_RECORDS)[0])
    return next((splits[word] for word in reversed(words) if word in splits), "")


def describing_files(paths: Iterable[str]) -> list[str]:
    """Those files at the top of a folder that describe its TFRecords."""
    top = [path for path in paths if "/" not in path]
    return [path for path in top if path in (LABELS_FILE, *_TFDS_FILES) or path.endswith(_TFDS_LABELS)]


def read_names(folder: str, described: Sequence[str]) -> Names:
    """Reads the files that `describing_files` found. Raises InputError where they do not say what they should."""
    names = Names()
    if _TFDS_INFO in described:
        try:
            image, label = json.loads(read_text(folder, _TFDS_INFO))["supervisedKeys"]["tuple"]["items"]
            names = Names((str(image["featureKey"]),), str(label["featureKey"]))
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            where = f"{folder}/{_TFDS_INFO}"
            raise InputError(
                f"{where} names no image and label (supervisedKeys): it is not a labeled data set."
            ) from error
    file = next((name for name in (f"{names.label}{_TFDS_LABELS}", LABELS_FILE) if name in described), None)
    if file is None:
        return names
    labels = read_text(folder, file).splitlines()
    if not labels or "" in labels or len(set(labels)) < len(labels):
        raise InputError(f"{folder}/{file} must hold a name a line, no two the same.")
    return dataclasses.replace(names, labels=tuple(labels))


def read_records(folder: str, path: str, names: Names) -> Iterator[Record]:
    """The images of one TFRecord file, one at a time.

    What cannot be used is yielded with its problem: a record without image or label, a file that cannot be opened or
    has no record, and, as one, whatever follows where a file is damaged, which hides how much that is.
    """
    number = -1
    try:
        for number, serialized in enumerate(_records(folder, path)):
            yield _read(f"{path}#{number}", serialized, names)
    except RejectedError as error:
        yield Record(path, "", b"", error.reason)
    except _DAMAGED as error:
        yield Record(f"{path}#{number + 1}", "", b"", f"the TFRecord file is damaged from here on: {error}")
    else:
        if number < 0:
            yield Record(path, "", b"", "the TFRecord file has no record")


def _read(path: str, serialized: bytes, names: Names) -> Record:
    import tensorflow as tf  # ten seconds; whoever only lists files needs none of it

    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except Exception:  # protobuf's DecodeError, whose module depends on its implementation
        return Record(path, "", b"", "the record is not a tf.Example")
    image: Sequence[bytes] = next((features[key].bytes_list.value for key in names.image if key in features), [])
    if len(image) != 1:
        return Record(path, "", b"", f"its tf.Example has no image in {' or '.join(names.image)}")
    label, problem = _label(features[names.label] if names.label in features else tf.train.Feature(), names)
    return Record(path, label, image[0], problem)


def _label(feature: tf.train.Feature, names: Names) -> tuple[str, str]:
    """The label, and what is wrong with it."""
    if len(feature.bytes_list.value) == 1:
        label = feature.bytes_list.value[0].decode("utf-8", "backslashreplace")
        if label and label.isprintable() and label == label.strip():
            return label, ""
        return "", f"its label {label!r} cannot name a class"
    if len(feature.int64_list.value) != 1:
        return "", f"its tf.Example has no {names.label}"
    number = feature.int64_list.value[0]
    if 0 <= number < len(names.labels):
        return names.labels[number], ""
    return "", f"its label is the number {number}, which has no name: give the data folder a {LABELS_FILE}"


def _records(folder: str, path: str) -> Iterator[bytes]:
    """The records of a local or remote file. Each is a length, its checksum, data, and their checksum, all masked.

    TensorFlow's reader knows no `s3://`, makes room for as many bytes as a record claims to have, and ends the process
    if there are not so many (core/lib/io/record_reader.cc).
    """
    with open_file(folder, path) as file:
        source = gzip.GzipFile(fileobj=file) if path.endswith(".gz") else file
        while head := source.read(12):
            (length,) = struct.unpack("<Q", head[:8].ljust(8, b"\0"))
            if head[8:] != _checksum(head[:8]):
                raise ValueError("a length has another checksum")
            if length > _MAX_RECORD:
                raise ValueError(f"a record claims {length:,} bytes")
            data, checksum = source.read(length), source.read(4)
            if len(checksum) < 4:
                raise ValueError("truncated record")
            if checksum != _checksum(data):
                raise ValueError("a record has another checksum")
            yield data


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)
