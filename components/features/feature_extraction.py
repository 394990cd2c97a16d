"""A Beam step from raw images to their features: computed in full batches, or taken from earlier artifacts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

from components.features.feature_index import SharedFeatureIndex
from components.features.feature_session import Prefix, Sessions
from core.artifacts.features import COMPUTED, FEATURES, LABEL, REUSED, SplitFeatures
from core.examples import SHA256
from core.progress import ProgressCounter


@dataclasses.dataclass
class _Worker:
    """What all threads of a process share."""

    sessions: Sessions
    progress: ProgressCounter


@dataclasses.dataclass(eq=False)
class ExtractFeatures(beam.DoFn):
    """In: batches of raw tf.Examples, serialized. Out: for each of them a tf.Example with its features.

    Images that are `known` take theirs from the index; the others are gathered into full batches again. `total` are the
    images of all splits, for the progress; `bfloat16` is whether any split's features are computed in it.
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
        self._new: list[bytes] = []

    def process(self, batch: Sequence[bytes]) -> Iterator[bytes]:  # noqa: D102
        if self._index is None:
            yield from self._compute(batch)
            return
        known = 0
        for record, label, sha256 in zip(batch, *self._session.identify(batch), strict=True):
            values = self._index.read(sha256)
            if values is None:
                self._new.append(record)
            else:
                known += 1
                yield _example(values, label, sha256)
        self._reused.inc(known)
        self._worker.progress.add(known)
        while len(self._new) >= self.batch_size:
            waiting, self._new = self._new[: self.batch_size], self._new[self.batch_size :]
            yield from self._compute(waiting)

    def finish_bundle(self) -> Iterator[WindowedValue]:  # noqa: D102
        if self._new:
            yield from map(GlobalWindows.windowed_value, self._compute(self._new))

    def _compute(self, batch: Sequence[bytes]) -> Iterator[bytes]:
        compute, numbers = self._session.features, range(self.split.variants.views)
        computed = [compute(batch, number) for number in numbers] or [compute(batch)]
        views = [features.astype(np.dtype(self.split.dtype).newbyteorder("<")) for features in computed]
        for label, sha256, *of_image in zip(*self._session.identify(batch), *views, strict=True):
            yield _example([features.tobytes() for features in of_image], label, sha256)
        self._computed.inc(len(batch))
        self._worker.progress.add(len(batch))


def _example(values: Iterable[bytes], label: int, sha256: bytes) -> bytes:
    feature = {
        FEATURES: tf.train.Feature(bytes_list=tf.train.BytesList(value=values)),
        LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        SHA256: tf.train.Feature(bytes_list=tf.train.BytesList(value=[sha256])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
