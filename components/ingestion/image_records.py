"""TFRecords of tf.Examples as a source of images: other tools' files, and folders that TensorFlow Datasets prepares.

A folder of TensorFlow Datasets holds TFRecords and describes which features of an Example are image and label, and the
names of integer labels (https://www.tensorflow.org/datasets/external_tfrecord): so reading it does not need that
package.
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
from core.image_limits import DEFAULT_LIMITS, ImageLimits

if TYPE_CHECKING:
    import tensorflow as tf

LABELS_FILE = "labels.txt"
"""Names of integer labels: one per line, starting with that of 0; or lines such as `7:owl`."""

_TFDS_INFO, _TFDS_LABELS = "dataset_info.json", ".labels.txt"
_TFDS_FILES = (_TFDS_INFO, "features.json")
_LABEL_MAPS = (LABELS_FILE, "label_map.txt", "labelmap.txt")
_PROTO_MAPS = ("label_map.pbtxt", "labelmap.pbtxt", "labels.pbtxt")  # of the TensorFlow Object Detection API
_RECORDS = (".tfrecord", ".tfrec")
_SHARD = re.compile(r"[^.]*(\.record)?-\d{5}-of-\d{5}(\.gz)?|.*\.record")  # as the scripts of slim and others write
_AROUND_IMAGE = 2**20  # bytes of a tf.Example for all but the image
_MAX_FIELDS = 2**17  # of a tf.Example, values included; an empty text has 2 bytes in it, and 40 in memory
_PACKED = 64  # bytes of packed integers that count as one value: each byte can be a number, and has 8 in memory
_MAX_LABEL = 1000  # characters
_MAX_UNUSABLE = 10_000  # records in a row; gzip makes a million empty ones of 30 KB
_MAX_DESCRIPTION = 16 * 2**20  # bytes of a file that describes records
_CHUNK = 2**20  # bytes that are passed over at a time
_MAX_CLAIM = 2**31  # bytes: a tf.Example, as any protocol buffer, has fewer
_MAX_KEY = 255  # bytes of an Example's, that a file beside it names
_MASK = 0xA282EAD8  # of the checksums
_DAMAGED = (ValueError, EOFError, zlib.error, gzip.BadGzipFile)  # what `_records` raises

_NO_EXAMPLE = "the record is not a tf.Example"
_VARINT, _LENGTH, _SIZES = 0, 2, {1: 8, 5: 4}  # protobuf's wire types, and the bytes of those of a fixed size
_INTEGERS, _IN_INTEGERS = 3, 5  # the field of a list of integers, and the level of what is in it; of the others 4
_NESTED = {(0, 1), (1, 1), (2, 2), (3, 1), (3, 2), (3, 3)}  # level and field of what holds fields of its own

_IMAGE_KEYS = ("image/encoded", "image", "image_raw", "encoded")
_INCEPTION_KEYS = ("image/class/text", "image/class/label")  # the name of a class, and its number, from 1
_LABEL_KEYS = ("label", *_INCEPTION_KEYS, "class", "target", "label_name", "class_name", "image/label")


@dataclasses.dataclass(frozen=True)
class Names:
    """Which features of an Example are image and label, and the names of integer labels.

    Attributes:
        image: keys of the encoded image; the first that an Example has counts.
        label: likewise for the label, as text or as a number.
        labels: numbers and their names; empty if labels are text.
    """

    image: tuple[str, ...] = _IMAGE_KEYS
    label: tuple[str, ...] = _LABEL_KEYS
    labels: tuple[tuple[int, str], ...] = ()

    def classes(self) -> list[str]:
        """The names of all classes."""
        return [name for _, name in self.labels]


class Record(NamedTuple):
    """One image of a TFRecord file, or what is wrong with it; the path ends in `#` and the record's number, from 0."""

    path: str
    label: str
    data: bytes
    problem: str = ""


def is_record_file(path: str) -> bool:
    """Whether a name is a TFRecord file's: `x.tfrecord`, `x.tfrecord-00000-of-00004`, `train-00000-of-00002`."""
    name = path.rsplit("/", 1)[-1].lower()
    return any(ending in name for ending in _RECORDS) or _SHARD.fullmatch(name) is not None


def are_records(paths: Sequence[str]) -> bool:
    """Whether a folder holds TFRecords, not just one next to images."""
    records = sum(map(is_record_file, paths))
    images = sum(path.lower().endswith((".jpg", ".jpeg", ".png")) for path in paths)
    return records > images


def split_of(path: str) -> str:
    """The split in the name of the first folder or the file, as in `flowers-train.tfrecord-00000-of-00004`; else ""."""
    folder, slash, _ = path.partition("/")
    name = path.rsplit("/", 1)[-1].lower()
    for ending in _RECORDS:
        name = name.partition(ending)[0]
    return (split_called(folder) if slash else "") or split_within(name)


def describing_files(paths: Iterable[str]) -> list[str]:
    """The files at the top of a folder that describe its TFRecords."""
    known = {*_LABEL_MAPS, *_PROTO_MAPS, *_TFDS_FILES}
    return [path for path in paths if "/" not in path and (path in known or path.endswith(_TFDS_LABELS))]


def read_names(
    folder: str, described: Sequence[str], records: Sequence[str], told: Mapping[str, str | None]
) -> tuple[Names, list[str]]:
    """Which features are image and label, and a line that says so: from the describing files and the first record.

    Args:
        folder: the data folder.
        described: what `describing_files` found.
        records: the TFRecord files.
        told: `data.columns`: `label` names the label's key, and `file_name` the image's.

    Raises:
        InputError: the describing files are invalid, or the first record has no image or label.
    """
    names = Names()
    if _TFDS_INFO in described:
        try:
            text = read_text(folder, _TFDS_INFO, _MAX_DESCRIPTION)
            image, label = json.loads(text)["supervisedKeys"]["tuple"]["items"]
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
    """One name per line, from 0 on; or a number and a name; or a protocol buffer's items with `id` and `name`."""
    text = read_text(folder, file, _MAX_DESCRIPTION)
    if file in _PROTO_MAPS:
        items = re.findall(r"item\s*\{([^{}]*)", text)  # what an item has in braces of its own comes last
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
            first = next(_records(folder, path))
            features = _features(first if isinstance(first, bytes) else b"")
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
    import tensorflow as tf  # ten seconds; listing other folders does not need it

    _check_size(serialized, 0, len(serialized))
    try:
        return tf.train.Example.FromString(serialized).features.feature
    except Exception as error:  # protobuf's DecodeError, whose module depends on its implementation
        raise ValueError(_NO_EXAMPLE) from error


def _keys(features: Mapping[str, tf.train.Feature]) -> str:
    """The keys of an Example, with their types."""
    kinds = {"bytes_list": "bytes", "int64_list": "integer", "float_list": "float", None: "empty"}
    return ", ".join(f"{key} ({kinds[features[key].WhichOneof('kind')]})" for key in sorted(features)) or "no features"


def read_records(folder: str, path: str, names: Names, limits: ImageLimits = DEFAULT_LIMITS) -> Iterator[Record]:
    """The images of one TFRecord file, one at a time.

    What cannot be used is yielded with its problem: a record without image or label, or larger than an image may be; a
    file that cannot be opened or has no record; and, as a single problem, everything after the place where a file is
    damaged, since it is unknown how much that is.
    """
    number, unusable = -1, 0
    try:
        for number, serialized in enumerate(_records(folder, path, limits)):
            record = _read(f"{path}#{number}", serialized, names)
            unusable = unusable + 1 if record.problem else 0
            yield record
            if unusable >= _MAX_UNUSABLE:
                problem = f"{unusable:,} records in a row cannot be used: the rest of the file is not read"
                yield Record(f"{path}#{number + 1}", "", b"", problem)
                return
    except RejectedError as error:
        yield Record(path, "", b"", error.reason)
    except _DAMAGED as error:
        yield Record(f"{path}#{number + 1}", "", b"", f"the TFRecord file is damaged from here on: {error}")
    else:
        if number < 0:
            yield Record(path, "", b"", "the TFRecord file has no record")


def _read(path: str, serialized: bytes | int, names: Names) -> Record:
    if isinstance(serialized, int):
        return Record(path, "", b"", f"its tf.Example has {serialized:,} bytes, more than an image may (max_file_mb)")
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

    Raises InputError if names are numbered from 0 and a number is beyond them: all may then be off by one.
    """
    if len(feature.bytes_list.value) == 1:
        label = feature.bytes_list.value[0].decode("utf-8", "backslashreplace")
        if label and len(label) <= _MAX_LABEL and label.isprintable() and label == label.strip():
            return label, ""
        return "", f"its label {label[:_MAX_LABEL]!r} cannot name a class"
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


def _records(folder: str, path: str, limits: ImageLimits = DEFAULT_LIMITS) -> Iterator[bytes | int]:
    """The records of a local or remote file. Each is a length, its checksum, data, and their checksum, all masked.

    For a record that is larger than an image may be, yields its length: it is skipped, and never in memory as a whole.
    TensorFlow's reader cannot read `s3://`, allocates as many bytes as a record claims to have, and ends the process if
    it cannot (core/lib/io/record_reader.cc).
    """
    with open_file(folder, path) as file:
        source = gzip.GzipFile(fileobj=file) if path.endswith(".gz") else file
        while head := source.read(12):
            (length,) = struct.unpack("<Q", head[:8].ljust(8, b"\0"))
            if head[8:] != _checksum(head[:8]):
                raise ValueError("a length has another checksum")
            if length > _MAX_CLAIM:
                raise ValueError(f"a record claims {length:,} bytes")
            whole = length <= limits.file_bytes + _AROUND_IMAGE
            data = source.read(length) if whole else b""
            left = 0 if whole else length
            while left and (chunk := source.read(min(left, _CHUNK))):
                left -= len(chunk)
            checksum = source.read(4)
            if len(checksum) < 4:
                raise ValueError("truncated record")
            if whole and checksum != _checksum(data):
                raise ValueError("a record has another checksum")
            yield data if whole else length


def _check_size(data: bytes, start: int, end: int, level: int = 0, count: int = 0) -> int:
    """Counts the fields of a serialized tf.Example, at all levels, before protobuf allocates memory for them.

    Features (field 1 of level 0) hold entries (1) of a key and a feature (2); that holds a list (1: bytes, 2: float,
    3: int64) of values (1), packed or one by one (https://protobuf.dev/programming-guides/encoding).

    Raises:
        ValueError: they are more than any image needs, or this is not such a message.
    """
    while start < end:
        tag, start = _varint(data, start)
        kind, size = tag & 7, _SIZES.get(tag & 7, 0)
        if kind == _VARINT:
            _, start = _varint(data, start)
        elif kind == _LENGTH:
            size, start = _varint(data, start)
        elif not size:
            raise ValueError(_NO_EXAMPLE)
        if start + size > end:
            raise ValueError(_NO_EXAMPLE)
        count += 1
        if kind == _LENGTH and (level, tag >> 3) in _NESTED:
            count = _check_size(data, start, start + size, level + (2 if tag >> 3 == _INTEGERS else 1), count)
        elif kind == _LENGTH and level == _IN_INTEGERS:
            count += size // _PACKED
        if count > _MAX_FIELDS:
            raise ValueError(f"its tf.Example has more than {_MAX_FIELDS:,} values")
        start += size
    return count


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """An integer as protobuf writes it, and the offset after it."""
    value = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError(_NO_EXAMPLE)


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)
