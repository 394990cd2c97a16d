"""A Beam step from raw images to their features, computed in full batches, or taken from where they are known.

The session that computes is one for all threads of a process, and so is the index of what is known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import apache_beam as beam
import tensorflow as tf
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

from components.features.feature_index import SHA256, FeatureIndex
from components.features.feature_session import FeatureSession, Prefix, fold
from core.progress import ProgressCounter
from core.settings import converter
from core.settings.augmentation import AugmentationConfig
from trainer.preprocessing import LABEL
from trainer.training.inputs import FEATURES

COMPUTED, REUSED = "images_computed", "images_reused"
"""Custom properties of the features: how many images went through the network, and of how many it was known."""


@dataclasses.dataclass(frozen=True)
class Variants:
    """How the training images are varied before the network sees them, and how often; None: not at all."""

    augmentation: AugmentationConfig | None = None
    seed: int = 0

    @property
    def views(self) -> int:
        """How many variants of an image are computed; 0: the image itself."""
        return self.augmentation.views or 0 if self.augmentation else 0

    def to_json(self) -> str:
        """For TFX's properties; the same variants give the same text."""
        return converter.to_json(self)

    @staticmethod
    def from_json(text: str) -> Variants:
        """The inverse of `to_json`."""
        return converter.from_json(text, Variants)


UNVARIED = Variants()
"""The images as they are."""


@dataclasses.dataclass
class _Worker:
    """What all threads of a process share."""

    session: FeatureSession
    progress: ProgressCounter


class Earlier:
    """Files of features that were computed just as those wanted; a process indexes them once, when it asks first."""

    def __init__(self, files: Sequence[str]) -> None:
        self._files = tuple(files)
        self._shared = Shared()

    def open(self) -> FeatureIndex | None:
        """The index, shared by all threads; None where there are no such files."""
        return self._shared.acquire(lambda: FeatureIndex(self._files)) if self._files else None


class ExtractFeatures(beam.DoFn):
    """In: batches of raw tf.Examples, serialised. Out: for each of them a tf.Example with its features.

    Images that are known take theirs from `earlier`; the others are gathered into full batches again.
    """

    def __init__(
        self,
        prefix: Prefix,
        bfloat16: bool,
        variants: Variants,
        batch_size: int,
        shared: Shared,
        total: int | None,
        views: int = 0,
        earlier: Earlier | None = None,
    ) -> None:
        """Says what to compute.

        Args:
            prefix: which features.
            bfloat16: how to compute them.
            variants: of the session that all splits share.
            batch_size: images that are computed at a time.
            shared: holds what a process has one of.
            total: images of all splits, for the progress.
            views: how many variants of each image to compute; 0: the image itself.
            earlier: features to look an image up in.
        """
        self._prefix = prefix
        self._bfloat16 = bfloat16
        self._variants = variants
        self._batch_size = batch_size
        self._shared = shared
        self._total = total
        self._views = views
        self._earlier = earlier
        self._computed = Metrics.counter(self.__class__, COMPUTED)
        self._reused = Metrics.counter(self.__class__, REUSED)

    def setup(self) -> None:  # noqa: D102
        self._worker = self.acquire(
            lambda: FeatureSession(
                self._prefix, fold(self._prefix), self._bfloat16, self._variants.augmentation, self._variants.seed
            )
        )
        self._index = self._earlier.open() if self._earlier else None

    def acquire(self, open_session: Callable[[], FeatureSession]) -> _Worker:
        """This process's worker; the first caller's function opens its session."""
        note = "bfloat16" if self._bfloat16 else "float32"
        return self._shared.acquire(lambda: _Worker(open_session(), ProgressCounter(self._total, "images", note)))

    def start_bundle(self) -> None:  # noqa: D102
        self._new: list[bytes] = []

    def process(self, batch: Sequence[bytes]) -> Iterator[bytes]:  # noqa: D102
        if self._index is None:
            yield from self._compute(batch)
            return
        known = 0
        for record, label, sha256 in zip(batch, *self._worker.session.identify(batch), strict=True):
            values = self._index.read(sha256)
            if values is None:
                self._new.append(record)
            else:
                known += 1
                yield _example(values, label, sha256)
        self._reused.inc(known)
        self._worker.progress.add(known)
        while len(self._new) >= self._batch_size:
            waiting, self._new = self._new[: self._batch_size], self._new[self._batch_size :]
            yield from self._compute(waiting)

    def finish_bundle(self) -> Iterator[WindowedValue]:  # noqa: D102
        if self._new:
            yield from map(GlobalWindows.windowed_value, self._compute(self._new))

    def _compute(self, batch: Sequence[bytes]) -> Iterator[bytes]:
        session = self._worker.session
        views = [session.view(batch, number) for number in range(self._views)] or [session.features(batch)]
        for label, sha256, *of_image in zip(*session.identify(batch), *views, strict=True):
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
