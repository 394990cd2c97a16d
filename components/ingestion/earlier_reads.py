"""What an earlier run read of files that have not changed since: their records are copied, not decoded again.

A file has not changed where all is as it was by which a run tells that nothing changed: its path, size, times of change
(of its content and of its inode) and where a link leads, and the class, split and metadata that the data folder gives
it. An execution leaves what it read beside its examples, in a file that is named by its settings, code and data folder;
a later one finds it there, where TFX puts executions side by side.
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

_reader = functools.cache(tfrecords.random_reader)  # of a file: one for all threads of a process
_reading = threading.Lock()


class Place(NamedTuple):
    """Where a picture's facts and record lie: their offsets, and which of the files holds the record."""

    facts: int
    file: int
    record: int


class _Read(NamedTuple):
    """A picture that was read; `source` stands for all that decides what it is read as, beside the settings."""

    source: str
    facts: ImageFacts


@dataclasses.dataclass(frozen=True)
class EarlierReads:
    """The TFRecords of an earlier execution: first that of what it read, then those of its examples; or none."""

    files: tuple[str, ...] = ()

    @classmethod
    def beside(cls, uri: str, name: str) -> EarlierReads:
        """Those of the latest execution that left a file of this name, of those with examples beside these."""
        folder, _, own = uri.rstrip("/").rpartition("/")
        found = {file: file.split("/")[-2] for file in tfrecords.find(f"{folder}/*/{name}")}
        numbers = {file: int(number) for file, number in found.items() if number.isdecimal() and number != own}
        if not numbers:
            return cls()
        latest = max(numbers, key=lambda file: numbers[file])
        return cls((latest, *tfrecords.find(f"{latest.rpartition('/')[0]}/Split-*/*")))

    def places(self, listing: Listing) -> dict[str, Place]:
        """Where the records of unchanged files lie, by path."""
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
        """A file's records with their offsets; of one that is damaged or gone, those that can be read."""
        try:
            yield from tfrecords.with_offsets(tfrecords.random_reader(self.files[number]))
        except tf.errors.OpError as error:
            logging.getLogger(__name__).warning("%s is not reused: %s", self.files[number], error)

    def read(self, place: Place) -> tuple[ImageFacts, bytes] | None:
        """The facts and the record, by their checksums as they were written; None if they cannot be read any more."""
        try:
            with _reading:
                facts, _ = _reader(self.files[0]).read(place.facts)
                record, _ = _reader(self.files[place.file]).read(place.record)
        except (tf.errors.OpError, IndexError):  # removed or cut short meanwhile
            return None
        return msgspec.json.decode(facts, type=_Read).facts, record


def file_name(listing: Listing, *settings: str) -> str:
    """Of the file that an execution with these settings leaves."""
    same = json.dumps([listing.folder, *settings]).encode()
    return f"read-{hashlib.sha256(same).hexdigest()[:16]}"


def write(uri: str, name: str, listing: Listing, facts: Iterable[ImageFacts], kept: Collection[str]) -> None:
    """Leaves what was read of the pictures whose paths are `kept`, beside their examples."""
    sources = _sources(listing)
    with tf.io.TFRecordWriter(f"{uri}/{name}") as file:
        for image in facts:
            if image.path in kept and image.path in sources:
                file.write(msgspec.json.encode(_Read(sources[image.path], image)))


def _sources(listing: Listing) -> dict[str, str]:
    """By path, what decides how a file is read; none of files that hold many pictures, which are read as a whole."""
    files: list[ListedFile] = [] if listing.layout == TFRECORDS else listing.files
    return {file.path: _hash(file, listing.metadata.values(file.path)) for file in files if not file.problem}


def _hash(file: ListedFile, values: dict[str, str]) -> str:
    return hashlib.blake2b(msgspec.json.encode((file, sorted(values.items()))), digest_size=16).hexdigest()
