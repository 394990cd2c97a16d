"""The Estimator's input: bottleneck features from TFRecords, or raw images live through Transform's graph.

Either way records are streamed; only the shuffle buffer is held in memory, and its size is bounded in bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from core import tfrecords
from core.artifacts.features import FEATURES, FEATURES_FILE, LABEL, FeatureFormat
from core.settings.augmentation import AugmentationConfig
from trainer import preprocessing
from trainer.images import augmentation as augmentations

_SHUFFLE_BYTES = 256 * 2**20
_SHUFFLE_RECORDS = 16384  # more mixes no better, and delays the first batch
_ENCODED_IMAGE_BYTES = 256 * 2**10  # assumed; ImageNet's mean is 110 kB


@dataclasses.dataclass(frozen=True)
class Source:
    """One split's TFRecord files, in the order they are read; `features` is None if they hold raw examples."""

    files: tuple[str, ...]
    features: FeatureFormat | None
    transform_directory: str


def find(patterns: Sequence[str], transform_directory: str, output: str | None = None) -> Source:
    """The records under TFX's file patterns, `<artifact>/Split-<name>/*`; `output` as in `Features.format`.

    Raises ValueError if no file matches, or if the records do not hold that block's average.
    """
    files = tfrecords.find(*patterns)
    if not files:
        raise ValueError(f"no file matches {', '.join(patterns)}")
    artifact, split, _ = patterns[0].rsplit("/", 2)
    features = None
    if tf.io.gfile.exists(FEATURES_FILE.path(artifact)):
        features = FEATURES_FILE.read(artifact).format(split.removeprefix("Split-"), output)
    return Source(tuple(files), features, transform_directory)


def training_input(
    source: Source, batch_size: int, seed: int, augmentation: AugmentationConfig | None = None, first_batch: int = 0
) -> Callable[[], tf.data.Dataset]:
    """An `input_fn` that shuffles and repeats forever; the same seed gives the same batches.

    Every pass over the records is shuffled by the seed and the pass's number. The first `first_batch` batches are
    skipped, so that a stopped training resumes where it was; this reads at most one pass. `augmentation` applies to
    images, not to features.

    Returns:
        A function that makes a dataset of ({`features`: float32 [b, *shape]} or {`image`: float32 [b, S, S, 3]},
        int64 [b]).
    """

    def input_fn() -> tf.data.Dataset:
        found = tfrecords.dataset(source.files)
        done = tf.constant(first_batch * batch_size, tf.int64)
        size = found.reduce(tf.constant(0, tf.int64), lambda count, _: count + 1) if first_batch else done + 1

        def shuffled(epoch: tf.Tensor) -> tf.data.Dataset:
            return found.shuffle(_buffer(source), seed=seed + epoch, reshuffle_each_iteration=False)

        epochs = tf.data.Dataset.range(done // size, tf.int64.max)
        numbered = epochs.flat_map(shuffled).skip(done % size).enumerate(done)
        return _batches(source, numbered.batch(batch_size), seed, augmentation)

    return input_fn


def evaluation_input(source: Source, batch_size: int) -> Callable[[], tf.data.Dataset]:
    """An `input_fn` that reads every labeled record once, in order; see `training_input` for its elements.

    Records of a class that the training split does not have cannot be scored, and are left out. Raises ValueError if
    the records hold variants of their images, which are for training only.
    """
    if source.features is not None and source.features.views:
        raise ValueError(f"{source.files[0]} holds augmented views; only training reads these")

    def input_fn() -> tf.data.Dataset:
        known = _label_reader(source)
        scored = tfrecords.dataset(source.files).filter(lambda record: known(record) >= 0)
        return _batches(source, scored.enumerate().batch(batch_size))

    return input_fn


def run_to_end(session: tf.compat.v1.Session, fetches: Any) -> Iterator[Any]:
    """The results of `session.run` for all batches of a data set."""
    with contextlib.suppress(tf.errors.OutOfRangeError):
        while True:
            yield session.run(fetches)


def sample(source: Source, images: int, batch_size: int, seed: int) -> tf.data.Dataset:
    """At most `images` records, once, shuffled as in training."""
    records = tfrecords.dataset(source.files).shuffle(_buffer(source), seed=seed).take(images)
    return _batches(source, records.enumerate().batch(batch_size), seed)


def count_labels(source: Source, classes: int) -> list[int]:
    """How many records each known class has, in one pass that decodes no image."""
    with tf.Graph().as_default():
        read = _label_reader(source)
        labels = tfrecords.dataset(source.files).map(read).filter(lambda label: label >= 0)
        one_hot = labels.map(lambda label: tf.one_hot(label, classes, dtype=tf.int64))
        total = one_hot.reduce(tf.zeros([classes], tf.int64), lambda sums, one: sums + one)
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.tables_initializer())
            return session.run(total).tolist()


def _buffer(source: Source) -> int:
    size = _ENCODED_IMAGE_BYTES
    if source.features is not None:
        size = math.prod(source.features.shape) * tf.as_dtype(source.features.dtype).size
        size *= max(1, source.features.views)
    return max(1, min(_SHUFFLE_RECORDS, _SHUFFLE_BYTES // size))


def _label_reader(source: Source) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from a serialized record to its label, int64 scalar; -1 if that is missing or unknown."""
    if source.features is not None:
        spec = {LABEL: tf.io.FixedLenFeature([], tf.int64)}
        return lambda record: tf.io.parse_single_example(record, spec)[LABEL]
    transform = preprocessing.load_transform(source.transform_directory, preprocessing.LABEL)
    return lambda record: transform(preprocessing.parse_examples(record[None])[preprocessing.RAW_LABEL])[0]


def _batches(
    source: Source, numbered: tf.data.Dataset, seed: int = 0, augmentation: AugmentationConfig | None = None
) -> tf.data.Dataset:
    """Decodes batches of numbers, int64 [b], and records; a record's number and the seed determine its variant."""
    if source.features is not None:
        decoded = numbered.map(_feature_decoder(source.features, seed), num_parallel_calls=1)
    else:
        image = preprocessing.load_transform(source.transform_directory, preprocessing.IMAGE)
        label = preprocessing.load_transform(source.transform_directory, preprocessing.LABEL)

        def transform(numbers: tf.Tensor, batch: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            raw = preprocessing.parse_examples(batch)
            images = image(raw[preprocessing.ENCODED])
            if augmentation is not None:
                seeds = tf.stack([tf.fill(tf.shape(numbers), tf.constant(seed, tf.int64)), numbers], axis=-1)
                images = augmentations.augment(images, seeds, augmentation)
            return {preprocessing.IMAGE: images}, label(raw[preprocessing.RAW_LABEL])

        decoded = numbered.map(transform, num_parallel_calls=2)
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = 2
    options.autotune.enabled = False
    return decoded.prefetch(2).with_options(options)


def _feature_decoder(
    stored: FeatureFormat, seed: int
) -> Callable[[tf.Tensor, tf.Tensor], tuple[dict[str, tf.Tensor], tf.Tensor]]:
    spec = {
        FEATURES: tf.io.FixedLenFeature([max(1, stored.views)], tf.string),
        LABEL: tf.io.FixedLenFeature([], tf.int64),
    }

    def decode(numbers: tf.Tensor, batch: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        parsed = tf.io.parse_example(batch, spec)
        encoded = parsed[FEATURES][:, 0]
        if stored.views:
            of_batch = tf.stack([tf.constant(seed, tf.int64), numbers[0]])
            drawn = tf.random.stateless_uniform(tf.shape(encoded), of_batch, maxval=stored.views, dtype=tf.int32)
            encoded = tf.gather(parsed[FEATURES], drawn, batch_dims=1)
        flat = tf.io.decode_raw(encoded, tf.as_dtype(stored.dtype))
        features = tf.cast(tf.reshape(flat, [-1, *stored.shape]), tf.float32)
        if stored.columns is not None:
            features = features[:, slice(*stored.columns)]
        return {FEATURES: features}, parsed[LABEL]

    return decode
