"""An index of stored features in earlier artifacts: from an image's SHA-256 to a TFRecord file and an offset in it.

It takes 20 bytes of memory per image, whatever the size of the features, which are read from the file one at a time.
"""

from __future__ import annotations

import array
import hashlib
import logging
import threading
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from apache_beam.utils.shared import Shared

from core import tfrecords
from core.artifacts.features import FEATURES
from core.examples import SHA256


class FeatureIndex:
    """An index of TFRecord files of features; safe to share between threads."""

    def __init__(self, files: Sequence[str]) -> None:
        """Reads all uncompressed `files` once, damaged ones as far as possible; an image's first record counts."""
        self._readers = [tfrecords.random_reader(file) for file in files]
        self._lock = threading.Lock()
        keys, places, offsets = array.array("Q"), array.array("L"), array.array("Q")
        for place, reader in enumerate(self._readers):
            try:
                for offset, record in tfrecords.with_offsets(reader):
                    keys.append(_key(tfrecords.values(record)[SHA256]))
                    places.append(place)
                    offsets.append(offset)
            except tf.errors.DataLossError as error:
                logging.getLogger(__name__).warning("%s is damaged and not reused: %s", files[place], error)
        self._keys, first = np.unique(np.frombuffer(keys, np.uint64), return_index=True)
        self._places = np.frombuffer(places, f"u{places.itemsize}")[first].astype(np.uint32)
        self._offsets = np.frombuffer(offsets, np.uint64)[first]

    def __len__(self) -> int:
        """How many images it knows."""
        return len(self._keys)

    def read(self, sha256: bytes) -> list[bytes] | None:
        """The stored features of an image, one value per view; None if there are none."""
        at = int(np.searchsorted(self._keys, np.uint64(_key(sha256))))
        if at == len(self._keys) or self._keys[at] != _key(sha256):
            return None
        with self._lock:
            record, _ = self._readers[self._places[at]].read(int(self._offsets[at]))
        feature = tf.train.Example.FromString(record).features.feature
        if list(feature[SHA256].bytes_list.value) != [sha256]:  # another image with the same key
            return None
        return list(feature[FEATURES].bytes_list.value)


class SharedFeatureIndex:
    """An index of files of features that each process builds when it first needs it."""

    def __init__(self, files: Sequence[str]) -> None:
        self._files = tuple(files)
        self._shared = Shared()

    def open(self) -> FeatureIndex | None:
        """The index, shared by all threads; None if there are no files."""
        return self._shared.acquire(lambda: FeatureIndex(self._files)) if self._files else None


def _key(sha256: bytes) -> int:
    """64 bits of a hash of the hash, which all carry information, whether it is hexadecimal or not."""
    return int.from_bytes(hashlib.blake2b(sha256, digest_size=8).digest(), "little")
