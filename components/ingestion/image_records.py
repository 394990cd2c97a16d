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
from typing import TYPE_CHECKING, NamedTuple

import google_crc32c

from components.ingestion.image_folder import open_file, read_text
from components.ingestion.image_reading import RejectedError
from components.ingestion.layouts.split_names import split_called, split_within
from core.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

LABELS_FILE = "labels.txt"
"""What integer labels are called: a name a line, the first is that of 0; or lines as `7:owl`."""

_TFDS_INFO, _TFDS_LABELS = "dataset_info.json", ".labels.txt"
_TFDS_FILES = (_TFDS_INFO, "features.json")
_LABEL_MAPS = (LABELS_FILE, "label_map.txt", "labelmap.txt")
_PROTO_MAPS = ("label_map.pbtxt", "labelmap.pbtxt", "labels.pbtxt")  # of the TensorFlow Object Detection API
_RECORDS = (".tfrecord", ".tfrec")
_SHARD = re.compile(r"[^.]*(\.record)?-\d{5}-of-\d{5}(\.gz)?|.*\.record")  # as the scripts of slim and others write
_MAX_RECORD = 2**31  # bytes: a tf.Example, as any protocol buffer, has fewer
_MAX_KEY = 255  # bytes of an Example's, that a file beside it names
_MASK = 0xA282EAD8  # of the checksums
_DAMAGED = (ValueError, EOFError, zlib.error, gzip.BadGzipFile)  # what `_records` raises

_IMAGE_KEYS = ("image/encoded", "image", "image_raw", "encoded")
_INCEPTION_KEYS = ("image/class/text", "image/class/label")  # the name of a class, and its number, from 1
_LABEL_KEYS = ("label", *_INCEPTION_KEYS, "class", "target", "label_name", "class_name", "image/label")


@dataclasses.dataclass(frozen=True)
class Names:
    """Where in an Example image and label are, and how integer labels are called.

    Attributes:
        image: keys of the encoded image; the first that an Example has counts.
        label: likewise of the label, as text or as a number.
        labels: numbers and their names; none if labels are text.
    """

    image: tuple[str, ...] = _IMAGE_KEYS
    label: tuple[str, ...] = _LABEL_KEYS
    labels: tuple[tuple[int, str], ...] = ()

    def classes(self) -> list[str]:
        """The names of all numbers."""
        return [name for _, name in self.labels]


class Record(NamedTuple):
    """One image of a TFRecord file, or what is wrong with it; the path ends in `#` and the record's number, from 0."""

    path: str
    label: str
    data: bytes
    problem: str = ""


def is_record_file(path: str) -> bool:
    """Whether a name is that of a TFRecord file: `x.tfrecord`, `x.tfrecord-00000-of-00004`, `train-00000-of-00002`."""
    name = path.rsplit("/", 1)[-1].lower()
    return any(ending in name for ending in _RECORDS) or _SHARD.fullmatch(name) is not None


def are_records(paths: Sequence[str]) -> bool:
    """Whether a folder holds TFRecords, and not just one beside images."""
    records = sum(map(is_record_file, paths))
    images = sum(path.lower().endswith((".jpg", ".jpeg", ".png")) for path in paths)
    return records > images


def split_of(path: str) -> str:
    """The split that names the first folder or the file, as `flowers-train.tfrecord-00000-of-00004`; else ""."""
    folder, slash, _ = path.partition("/")
    name = path.rsplit("/", 1)[-1].lower()
    for ending in _RECORDS:
        name = name.partition(ending)[0]
    return (split_called(folder) if slash else "") or split_within(name)


def describing_files(paths: Iterable[str]) -> list[str]:
    """Those files at the top of a folder that describe its TFRecords."""
    known = {*_LABEL_MAPS, *_PROTO_MAPS, *_TFDS_FILES}
    return [path for path in paths if "/" not in path and (path in known or path.endswith(_TFDS_LABELS))]


def read_names(
    folder: str, described: Sequence[str], records: Sequence[str], told: Mapping[str, str | None]
) -> tuple[Names, list[str]]:
    """Where image and label are, and a line that says so: by what describes the records, and by the first of them.

    Args:
        folder: the data folder.
        described: what `describing_files` found.
        records: the TFRecord files.
        told: `data.columns`: `label` names its key, and `file_name` that of the image.

    Raises:
        InputError: those files do not say what they should, or the first record has no image or label.
    """
    names = Names()
    if _TFDS_INFO in described:
        try:
            image, label = json.loads(read_text(folder, _TFDS_INFO))["supervisedKeys"]["tuple"]["items"]
            keys = [str(one["featureKey"]) for one in (image, label)]
            if max(len(key.encode()) for key in keys) > _MAX_KEY:
                raise ValueError("no key is so long")
            names = Names((keys[0],), (keys[1],))
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            where = f"{folder}/{_TFDS_INFO}"
            raise InputError(
                f"{where} names no image and label (supervisedKeys): it is not a labeled data set."
            ) from error
    if image_key := told.get("file_name"):
        names = dataclasses.replace(names, image=(image_key,))
    if label_key := told.get("label"):
        names = dataclasses.replace(names, label=(label_key,))
    wanted = (f"{names.label[0]}{_TFDS_LABELS}", *_LABEL_MAPS, *_PROTO_MAPS)
    file = next((name for name in wanted if name in described), None)
    labels = _read_labels(folder, file) if file else ()
    return _by_first_record(folder, records, dataclasses.replace(names, labels=labels), file or "")


def _read_labels(folder: str, file: str) -> tuple[tuple[int, str], ...]:
    """A name a line, from 0 on; or a number and a name a line; or a protocol buffer's items, with `id` and `name`."""
    text = read_text(folder, file)
    if file in _PROTO_MAPS:
        items = re.findall(r"item\s*\{(.*?)\}", text, re.DOTALL)
        fields = [
            (re.search(r"\bid\s*:\s*(\d{1,18})\b", item), re.search(r"\bname\s*:\s*[\"'](.*?)[\"']", item))
            for item in items
        ]
        found = [(int(number[1]), name[1]) for number, name in fields if number and name]
        whole = len(found) == len(items)
    else:
        lines = [line.strip() for line in text.rstrip().splitlines()]
        numbered = [re.fullmatch(r"(\d{1,18})(\s*[:,\t]\s*|\s+)(.+)", line) for line in lines]
        pairs = [(int(match[1]), match[3]) for match in numbered if match]
        clear = all(match[2].strip(" ") for match in numbered if match) or [n for n, _ in pairs] == [*range(len(pairs))]
        found = pairs if len(pairs) == len(lines) and clear else list(enumerate(lines))
        whole = all(name and name.isprintable() for _, name in found)
    if not found or not whole or any(len({pair[at] for pair in found}) < len(found) for at in (0, 1)):
        raise InputError(
            f"{folder}/{file} must hold a name a line, or a number and a name as 7:owl, no two the same and none empty."
        )
    return tuple(sorted(found))


def _by_first_record(folder: str, records: Sequence[str], names: Names, file: str) -> tuple[Names, list[str]]:
    """The names with the keys that the first readable record has."""
    for path in records:
        try:
            features = _features(next(_records(folder, path)))
        except (StopIteration, RejectedError, *_DAMAGED):  # a reject, when it is read
            continue
        image = next((key for key in names.image if key in features), None)
        labels = [key for key in names.label if key in features]
        if set(labels) <= set(_INCEPTION_KEYS):
            labels = labels[:1]  # text where there is text
        if image is None or not labels:
            what = "image" if image is None else "label"
            wanted = names.image if image is None else names.label
            setting = "file_name" if image is None else "label"
            raise InputError(
                f"{folder}/{path}: its first tf.Example has no {what} ({', '.join(wanted)}); it has {_keys(features)}. "
                f"Name the key in data.columns.{setting}; or, if it is of images without labels, as a competition's "
                f'test images, set data.ignore to ["/{path if "/" not in path else path.rpartition("/")[0] + "/"}"].'
            )
        if len(labels) > 1:
            raise InputError(
                f"{folder}/{path}: {', '.join(labels)} could each be the label of a tf.Example. Name one in "
                "data.columns.label."
            )
        held = features[labels[0]]
        if len(held.bytes_list.value) + len(held.int64_list.value) != 1:
            raise InputError(
                f"{folder}/{path}: {labels[0]} of a tf.Example is not one text or one number; it has "
                f"{_keys(features)}. Name another key in data.columns.label."
            )
        number = bool(held.int64_list.value)
        if number and not file:
            raise InputError(
                f"{folder}/{path}: {labels[0]} of a tf.Example is a number, and nothing says what it is called. Give "
                f"the data folder a {LABELS_FILE} with a name a line, that of 0 first, or with lines as 7:owl."
            )
        said = f"the image is in {image} and the label in {labels[0]}" + (f", named by {file}" if number else "")
        named = names.labels if number else ()
        return dataclasses.replace(names, image=(image,), label=tuple(labels), labels=named), [said]
    return names, []


def _features(serialized: bytes) -> Mapping[str, tf.train.Feature]:
    import tensorflow as tf  # ten seconds, and whoever lists other folders needs none of it

    try:
        return tf.train.Example.FromString(serialized).features.feature
    except Exception as error:  # protobuf's DecodeError, whose module depends on its implementation
        raise ValueError("the record is not a tf.Example") from error


def _keys(features: Mapping[str, tf.train.Feature]) -> str:
    """The keys of an Example, with their types."""
    kinds = {"bytes_list": "bytes", "int64_list": "integer", "float_list": "float", None: "empty"}
    return ", ".join(f"{key} ({kinds[features[key].WhichOneof('kind')]})" for key in sorted(features)) or "no features"


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
    try:
        features = _features(serialized)
    except ValueError as error:
        return Record(path, "", b"", str(error))
    image: Sequence[bytes] = next((features[key].bytes_list.value for key in names.image if key in features), [])
    if len(image) != 1:
        return Record(path, "", b"", f"its tf.Example has no image in {' or '.join(names.image)}")
    feature = next((features[key] for key in names.label if key in features), None)
    label, problem = ("", "") if feature is None else _label(path, feature, names)
    if not label and not problem:
        problem = f"its tf.Example has no label in {' or '.join(names.label)}; it has {_keys(features)}"
    return Record(path, label, image[0], problem)


def _label(path: str, feature: tf.train.Feature, names: Names) -> tuple[str, str]:
    """The label, and what is wrong with it; neither if there is none.

    Raises InputError where names are numbered from 0 and a number is beyond them: all may then be one off.
    """
    if len(feature.bytes_list.value) == 1:
        label = feature.bytes_list.value[0].decode("utf-8", "backslashreplace")
        if label and label.isprintable() and label == label.strip():
            return label, ""
        return "", f"its label {label!r} cannot name a class"
    if len(feature.int64_list.value) != 1:
        return "", ""
    number = feature.int64_list.value[0]
    called = dict(names.labels)
    if number >= len(called) and called and max(called) < len(called):
        raise InputError(
            f"{path}: its label is the number {number}; the names are of 0 to {len(called) - 1}, and may be one off. "
            f"Write each name with its number into {LABELS_FILE}, as {number}:owl."
        )
    return called.get(number, ""), "" if number in called else f"its label is the number {number}, which has no name"


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
