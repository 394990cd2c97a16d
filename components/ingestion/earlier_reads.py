"""What an earlier run read from files that have not changed since: their records are copied, not decoded again.

A file counts as unchanged if its path, size, times of change (of its content and of its inode) and link target are what
they were, as well as the class, split and metadata that the data folder gives it. An execution leaves what it read
beside its examples, in a file named after its settings, code and data folder; a later execution finds it there, since
TFX puts executions side by side.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import threading
from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec
import tensorflow as tf

from components.ingestion.image_folder import ListedFile
from components.ingestion.image_splits import ImageFacts
from components.ingestion.layouts.listing import TFRECORDS, Listing
from core import examples, tfrecords

_reader = functools.cache(tfrecords.random_reader)  # one per file, for all threads of a process
_reading = threading.Lock()


class Place(NamedTuple):
    """Where an image's facts and record are: their offsets, and which of the files holds the record."""

    facts: int
    file: int
    record: int


class _Read(NamedTuple):
    """An image that was read; `source` identifies everything besides the settings that decides the result."""

    source: str
    facts: ImageFacts


@dataclasses.dataclass(frozen=True)
class EarlierReads:
    """The TFRecords of an earlier execution: first the one of what it read, then those of its examples; or none."""

    files: tuple[str, ...] = ()

    @classmethod
    def beside(cls, uri: str, name: str) -> EarlierReads:
        """The reads of the latest execution beside this one that left a file of this name."""
        folder, _, own = uri.rstrip("/").rpartition("/")
        found = {file: file.split("/")[-2] for file in tfrecords.find(f"{folder}/*/{name}")}
        numbers = {file: int(number) for file, number in found.items() if number.isdecimal() and number != own}
        if not numbers:
            return cls()
        latest = max(numbers, key=lambda file: numbers[file])
        return cls((latest, *tfrecords.find(f"{latest.rpartition('/')[0]}/Split-*/*")))

    def places(self, listing: Listing) -> dict[str, Place]:
        """Where the records of unchanged files are, by path."""
        if not self.files:
            return {}
        sources, known = _sources(listing), {}
        for offset, read in self._scan(0):
            source, facts = msgspec.json.decode(read, type=_Read)
            if sources.get(facts.path) == source:
                known[facts.path] = offset
        places = {}
        for number in range(1, len(self.files)):
            for offset, record in self._scan(number):
                path = tfrecords.values(record)[examples.PATH].decode()
                if path in known:
                    places[path] = Place(known[path], number, offset)
        return places

    def _scan(self, number: int) -> Iterable[tuple[int, bytes]]:
        """A file's records with their offsets; if it is damaged or gone, those that can be read."""
        try:
            yield from tfrecords.with_offsets(tfrecords.random_reader(self.files[number]))
        except tf.errors.OpError as error:
            logging.getLogger(__name__).warning("%s is not reused: %s", self.files[number], error)

    def read(self, place: Place) -> tuple[ImageFacts, bytes] | None:
        """The facts and the record, verified by their checksums; None if they can no longer be read."""
        try:
            with _reading:
                facts, _ = _reader(self.files[0]).read(place.facts)
                record, _ = _reader(self.files[place.file]).read(place.record)
        except (tf.errors.OpError, IndexError):  # removed or cut short meanwhile
            return None
        return msgspec.json.decode(facts, type=_Read).facts, record


def file_name(listing: Listing, *settings: str) -> str:
    """The name of the file that an execution with these settings leaves."""
    same = json.dumps([listing.folder, *settings]).encode()
    return f"read-{hashlib.sha256(same).hexdigest()[:16]}"


def write(uri: str, name: str, listing: Listing, facts: Iterable[ImageFacts], kept: Collection[str]) -> None:
    """Writes what was read from the images whose paths are `kept`, beside their examples."""
    sources = _sources(listing)
    with tf.io.TFRecordWriter(f"{uri}/{name}") as file:
        for image in facts:
            if image.path in kept and image.path in sources:
                file.write(msgspec.json.encode(_Read(sources[image.path], image)))


def _sources(listing: Listing) -> dict[str, str]:
    """By path, what decides how a file is read; leaves out files that hold many images, which are read as a whole."""
    files: list[ListedFile] = [] if listing.layout == TFRECORDS else listing.files
    return {file.path: _hash(file, listing.metadata.values(file.path)) for file in files if not file.problem}


def _hash(file: ListedFile, values: dict[str, str]) -> str:
    return hashlib.blake2b(msgspec.json.encode((file, sorted(values.items()))), digest_size=16).hexdigest()
