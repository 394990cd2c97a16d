import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from core.artifacts.features import FeatureFormat
from core.settings.training import AugmentationConfig
from tests.trainer import training_data
from trainer import preprocessing
from trainer.training import inputs


def batches(input_fn: Callable[[], tf.data.Dataset]) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Reads as Estimator reads: an iterator whose initialiser runs beside the tables'."""
    with tf.Graph().as_default():
        iterator = tf.compat.v1.data.make_initializable_iterator(input_fn())
        element = iterator.get_next()
        with tf.compat.v1.Session() as session:
            session.run([tf.compat.v1.tables_initializer(), iterator.initializer])
            while True:
                try:
                    yield session.run(element)
                except tf.errors.OutOfRangeError:
                    return


def source(artifact: Path, split: str, transform: Path) -> inputs.Source:
    return inputs.find([f"{artifact}/Split-{split}/*"], str(transform))


def test_features_come_back_as_they_were_written(features_at: Callable[[str], Path], transform_directory: Path) -> None:
    found = source(features_at("mixed9"), "eval", transform_directory)
    assert found.features == FeatureFormat("mixed9", (1, 1, 2048), "float16")
    read = list(batches(inputs.evaluation_input(found, 10)))
    assert [len(labels) for _, labels in read] == [10, 10, 4]
    stored = [tf.train.Example.FromString(r) for r in training_data.read_split(features_at("mixed9"), "eval")]
    wanted = np.stack([np.frombuffer(e.features.feature["features"].bytes_list.value[0], "<f2") for e in stored])
    values = np.concatenate([f["features"] for f, _ in read])
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values.reshape(24, 2048), wanted.astype(np.float32))
    assert np.concatenate([labels for _, labels in read]).tolist() == [0, 1, 2] * 8


def test_training_shuffles_repeats_and_is_reproducible(
    features_at: Callable[[str], Path], transform_directory: Path
) -> None:
    found = source(features_at("pooled"), "train", transform_directory)

    def labels(seed: int) -> list[Any]:
        return [b[1].tolist() for b in itertools.islice(batches(inputs.training_input(found, 20, seed)), 8)]

    first = labels(1)
    assert all(len(batch) == 20 for batch in first)  # 160 of 72 examples: it repeats
    assert first[0] != ([0, 1, 2] * 7)[:20]
    assert first == labels(1)
    assert first != labels(2)


@pytest.mark.parametrize("first_batch", [1, 3, 4, 7])  # an epoch is 3.6 batches
def test_training_goes_on_where_it_was(
    first_batch: int, features_at: Callable[[str], Path], transform_directory: Path
) -> None:
    found = source(features_at("pooled"), "train", transform_directory)

    def read(first_batch: int, count: int) -> list[np.ndarray]:
        dataset = inputs.training_input(found, 20, 1, first_batch=first_batch)
        return [features["features"] for features, _ in itertools.islice(batches(dataset), count)]

    for batch, wanted in zip(read(first_batch, 3), read(0, first_batch + 3)[first_batch:], strict=True):
        np.testing.assert_array_equal(batch, wanted)


def test_live_images_are_the_transformed_ones(raw_examples: Path, transform_directory: Path) -> None:
    found = source(raw_examples, "eval", transform_directory)
    assert found.features is None
    (features, labels), *_ = batches(inputs.evaluation_input(found, 5))
    assert labels.tolist() == [0, 1, 2, 0, 1]
    assert features["image"].shape == (5, 75, 75, 3)
    assert features["image"][2].mean((0, 1)).argmax() == 0  # a red image


@pytest.mark.parametrize("live", [True, False])
def test_records_of_unknown_classes_are_left_out(live: bool, tmp_path: Path, transform_directory: Path) -> None:
    if live:
        image = training_data.image("red", 1)
        records = [training_data.raw_example(image, name) for name in ("red", "unseen", "blue")]
    else:
        records = []
        for label in (2, -1, 0):
            example = tf.train.Example()
            example.features.feature["features"].bytes_list.value.append(np.zeros(2, "<f4").tobytes())
            example.features.feature["label_xf"].int64_list.value.append(label)
            records.append(example.SerializeToString())
        training_data.describe_features(tmp_path, "pooled", ("mixed10",), (2,))
    training_data.write_split(tmp_path, "eval", records)
    found = source(tmp_path, "eval", transform_directory)
    assert [labels.tolist() for _, labels in batches(inputs.evaluation_input(found, 8))] == [[2, 0]]
    assert inputs.count_labels(found, 3) == [1, 0, 1]


def test_sample_reads_each_record_at_most_once(features_at: Callable[[str], Path], transform_directory: Path) -> None:
    found = source(features_at("pooled"), "train", transform_directory)
    assert sum(len(labels) for _, labels in batches(lambda: inputs.sample(found, 50, 16, 1))) == 50
    assert sum(len(labels) for _, labels in batches(lambda: inputs.sample(found, 1000, 16, 1))) == 72


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Split-train"):
        inputs.find([f"{tmp_path}/Split-train/*"], "")


AUGMENTED = AugmentationConfig(flip=True, crop=0.2, color=0.1, brightness=0.1, cutout=0.2)


def test_live_training_images_are_varied_anew_in_every_epoch_and_reproducibly(
    raw_examples: Path, transform_directory: Path
) -> None:
    """Each of the 24 images comes three times in 72: four different images of it, with the plain one."""
    found = source(raw_examples, "eval", transform_directory)
    plain = np.concatenate([f["image"] for f, _ in batches(inputs.evaluation_input(found, 24))])

    def epochs(seed: int) -> np.ndarray:
        stream = batches(inputs.training_input(found, 24, seed, AUGMENTED))
        return np.stack([features["image"] for features, _ in itertools.islice(stream, 3)])

    varied = epochs(1)
    assert varied.shape == (3, 24, 75, 75, 3) and varied.min() >= -1 and varied.max() <= 1
    assert len({image.tobytes() for image in (*plain, *varied.reshape(72, 75, 75, 3))}) == 24 + 72
    np.testing.assert_array_equal(varied, epochs(1))
    assert not np.array_equal(varied, epochs(2))


def test_images_that_measure_are_never_varied(raw_examples: Path, transform_directory: Path) -> None:
    """Those of the evaluation and of the standardisation are what Transform makes of them, and so is what is served."""
    found = source(raw_examples, "eval", transform_directory)
    records = training_data.read_split(raw_examples, "eval")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = preprocessing.transform_examples(str(transform_directory), tf.constant(records))
        session.run(tf.compat.v1.tables_initializer())
        transformed = session.run(made["image"])
    (evaluated,) = [f["image"] for f, _ in batches(inputs.evaluation_input(found, 24))]
    np.testing.assert_array_equal(evaluated, transformed)
    (sampled,) = [f["image"] for f, _ in batches(lambda: inputs.sample(found, 24, 24, 1))]
    assert {image.tobytes() for image in sampled} == {image.tobytes() for image in transformed}
