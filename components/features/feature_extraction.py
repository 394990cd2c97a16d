"""A Beam step from raw images to their features: computed in full batches, or taken from earlier artifacts.

It writes a file of features for each file of images, in the same order, which does not depend on the Beam engine.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

from components.features.feature_index import SharedFeatureIndex
from components.features.feature_session import Prefix, Sessions
from core import tfrecords
from core.artifacts.features import COMPUTED, FEATURES, LABEL, REUSED, SplitFeatures
from core.examples import SHA256
from core.progress import ProgressCounter

_MOST_HELD = 2**26  # bytes of known features waiting for earlier ones; beyond that, an incomplete batch is computed


class Shard(NamedTuple):
    """A TFRecord file of raw tf.Examples, and the file for their features."""

    source: str
    target: str


@dataclasses.dataclass
class _Unwritten:
    """An image to be written, or the end of a file; `features` is the tf.Example with its features, once computed."""

    writer: tfrecords.Writer
    record: bytes = b""
    features: bytes = b""
    last: bool = False


@dataclasses.dataclass
class _Worker:
    """What all threads of a process share."""

    sessions: Sessions
    progress: ProgressCounter


@dataclasses.dataclass(eq=False)
class ExtractFeatures(beam.DoFn):
    """In: `Shard`s. Out: for each, how many images' features were written to its file of features, in its order.

    `known` images take their features from the index; the others are computed in full batches, across shards. `total`
    is the number of images in all splits, for progress; `bfloat16` says whether any split is computed in it.
    """

    prefix: Prefix
    bfloat16: bool
    batch_size: int
    shared: Shared
    total: int | None
    split: SplitFeatures
    known: SharedFeatureIndex

    def __post_init__(self) -> None:
        self._computed = Metrics.counter(self.__class__, COMPUTED)
        self._reused = Metrics.counter(self.__class__, REUSED)

    def setup(self) -> None:  # noqa: D102
        self._worker = self.acquire(lambda: Sessions.open(self.prefix, self.bfloat16))
        self._session = self._worker.sessions.fast if self.split.bfloat16 else self._worker.sessions.exact
        self._index = self.known.open()

    def acquire(self, open_sessions: Callable[[], Sessions]) -> _Worker:
        """This process's worker; the first caller's function opens its sessions."""
        note = "bfloat16" if self.bfloat16 else "float32"
        return self.shared.acquire(lambda: _Worker(open_sessions(), ProgressCounter(self.total, "images", note)))

    def start_bundle(self) -> None:  # noqa: D102
        self._unwritten: collections.deque[_Unwritten] = collections.deque()
        self._new: list[_Unwritten] = []
        self._held = 0  # bytes of features that are not written

    def process(self, shard: Shard) -> Iterator[int]:  # noqa: D102
        writer = tfrecords.Writer(shard.target)
        for batch in tfrecords.dataset([shard.source]).batch(self.batch_size).as_numpy_iterator():
            self._take(batch, writer)
            yield from self._write()
            while len(self._new) >= self.batch_size or (self._new and self._held > _MOST_HELD):
                self._compute()
                yield from self._write()
        self._unwritten.append(_Unwritten(writer, last=True))
        yield from self._write()

    def finish_bundle(self) -> Iterator[WindowedValue]:  # noqa: D102
        if self._new:
            self._compute()
        yield from map(GlobalWindows.windowed_value, self._write())

    def _take(self, batch: Sequence[bytes], writer: tfrecords.Writer) -> None:
        images = [_Unwritten(writer, record) for record in batch]
        self._unwritten += images
        if self._index is None:
            self._new += images
            return
        known = 0
        for image, label, sha256 in zip(images, *self._session.identify(batch), strict=True):
            values = self._index.read(sha256)
            if values is None:
                self._new.append(image)
            else:
                image.features = _example(values, label, sha256)
                self._held += len(image.features)
                known += 1
        self._reused.inc(known)
        self._worker.progress.add(known)

    def _compute(self) -> None:
        images, self._new = self._new[: self.batch_size], self._new[self.batch_size :]
        batch = [image.record for image in images]
        compute, numbers = self._session.features, range(self.split.variants.views)
        computed = [compute(batch, number) for number in numbers] or [compute(batch)]
        views = [features.astype(np.dtype(self.split.dtype).newbyteorder("<")) for features in computed]
        for image, label, sha256, *of_image in zip(images, *self._session.identify(batch), *views, strict=True):
            image.features = _example([features.tobytes() for features in of_image], label, sha256)
            self._held += len(image.features)
        self._computed.inc(len(batch))
        self._worker.progress.add(len(batch))

    def _write(self) -> Iterator[int]:
        """Writes all features up to the first missing ones; yields the counts of completed files."""
        while self._unwritten and (self._unwritten[0].last or self._unwritten[0].features):
            first = self._unwritten.popleft()
            if first.last:
                first.writer.close()
                yield first.writer.count
            else:
                first.writer.write(first.features)
                self._held -= len(first.features)


def _example(values: Iterable[bytes], label: int, sha256: bytes) -> bytes:
    feature = {
        FEATURES: tf.train.Feature(bytes_list=tf.train.BytesList(value=values)),
        LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        SHA256: tf.train.Feature(bytes_list=tf.train.BytesList(value=[sha256])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
