"""TFRecords of others: what frames them, the tf.Examples in them, and what TensorFlow Datasets writes beside them."""

from __future__ import annotations

import gzip
import json
import random
import struct
from pathlib import Path

import google_crc32c
import tensorflow as tf

from benchmarks.fuzz.mutations import mutated
from benchmarks.fuzz.target import Target, check_message, scratch_folder
from components.ingestion.image_layout import read_layout
from components.ingestion.image_reading import RejectedError
from components.ingestion.image_records import read_records
from core.errors import InputError
from core.settings.data import DataSettings

_CONFIG = DataSettings("photos").ingestion({})
_RECORDS, _GZIP, _EXAMPLE = b"x-train.tfrecord", b"train-00000-of-00001.gz", b"example"
_BESIDE = (b"dataset_info.json", b"features.json", b"labels.txt", b"label.labels.txt", b"label_map.pbtxt")
_INFO = {"supervisedKeys": {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}}}
_TOKENS = [
    *b"item { } id: name: 1 0 -1 9999999999999999999".split(),
    *b"[] null true NaN 1e999 supervisedKeys tuple items featureKey".split(),
    *(b"image", b"label", b"image/encoded", b"image/class/label", b"image/class/text", b"\n", b":", b"\0", b"\xff"),
    *(
        b"[" * 2000,
        b'{"a":' * 500,
        b"\xef\xbb\xbf",
        b"\\ud800",
        b"9" * 5000,
        b"\xed\xa0\x80",
        b"\x1b[31m",
        b"owl\n" * 99,
    ),
]


def framed(data: bytes) -> bytes:
    """A record as TFRecord files hold it."""
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _example(**features: bytes | int | float) -> bytes:
    example = tf.train.Example()
    for name, value in features.items():
        feature = example.features.feature[name.replace("__", "/")]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.float_list.value.append(value)
    return example.SerializeToString(deterministic=True)


class Records(Target):
    """`read_layout` and `read_records` of a folder with one file changed; an input's first line names it.

    `example` is one record that is framed right, as otherwise hardly a change gets past the checksums.
    """

    name = "records"

    def __init__(self) -> None:
        image = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
        self._examples = [
            _example(image=image, label=1, height=3),
            _example(image=image, label=b"owl"),
            _example(image__encoded=image, image__class__label=1, image__class__text=b"owl", image__format=b"png"),
            _example(image=image, label=0.5),
        ]
        good = framed(self._examples[0]) + framed(_example(image=image, label=0))
        items = b"item { id: 0 name: \"owl\" }\nitem {\n  id: 1\n  name: 'wren'\n}\n"
        self._good = {
            _RECORDS: good,
            _BESIDE[0]: json.dumps(_INFO).encode(),
            _BESIDE[1]: b'{"featuresDict": {"features": {}}}',
            _BESIDE[2]: b"owl\nwren\n",
        }
        beside = {**{name: self._good.get(name, b"0:owl\n1:wren\n") for name in _BESIDE}, _BESIDE[4]: items}
        self._beside = [name + b"\n" + text for name, text in beside.items()]
        self._files = [_RECORDS + b"\n" + good, _GZIP + b"\n" + gzip.compress(good * 9, mtime=0)]
        self._folder = scratch_folder()
        self._path = Path(self._folder.name)

    def close(self) -> None:
        self._folder.cleanup()

    def seeds(self) -> list[bytes]:
        return [*self._files, *self._beside, *(_EXAMPLE + b"\n" + example for example in self._examples)]

    def make(self, chance: random.Random) -> bytes:
        kind = chance.random()
        if kind < 0.4:
            return _EXAMPLE + b"\n" + mutated(self._examples, chance, _TOKENS)
        seed = chance.choice(self._files if kind < 0.6 else self._beside)
        name, _, text = seed.partition(b"\n")
        if name == _GZIP and chance.random() < 0.5:
            return name + b"\n" + gzip.compress(mutated([gzip.decompress(text)], chance), mtime=0)
        return name + b"\n" + mutated([text], chance, _TOKENS if name in _BESIDE else ())

    def attempt(self, data: bytes) -> str:
        name, _, text = data.partition(b"\n")
        if name not in (*_BESIDE, _RECORDS, _GZIP):
            name, text = _RECORDS, framed(text) * 2
        files = {**self._good, name: text}
        if name == _GZIP:
            del files[_RECORDS]
        for file in list(self._path.iterdir()):
            if file.name.encode() not in files:
                file.unlink()
        for file_name, content in files.items():
            (self._path / file_name.decode()).write_bytes(content)
        problems = 0
        try:
            listing = read_layout(str(self._path), _CONFIG)
            check_message(" ".join(["read as follows", *listing.notes(), *listing.remarks]))
            listing.classes(), listing.fingerprint()
            for file in listing.files:
                for record in () if file.problem else read_records(listing.folder, file.path, listing.names):
                    if record.problem:
                        check_message(record.problem)
                        problems += 1
        except (InputError, RejectedError) as error:
            check_message(str(error))
            return "refused"
        return "records rejected" if problems else "read"
