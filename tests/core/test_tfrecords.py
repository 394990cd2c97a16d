"""Reading TFRecords as ExampleGen, FeatureExtractor and TFX's own components write them."""

import functools
from pathlib import Path

import pytest
import tensorflow as tf

from core import tfrecords
from tests.trainer import training_data


@pytest.fixture(params=["", ".gz"])
def artifact(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two files of three and two images, packed or not, written in the order of their names reversed."""
    options = tf.io.TFRecordOptions(compression_type="GZIP" if request.param else "")
    (tmp_path / "Split-train").mkdir()
    for shard, seeds in ((1, (3, 4)), (0, (0, 1, 2))):
        path = tmp_path / "Split-train" / f"data-0000{shard}-of-00002{request.param}"
        with tf.io.TFRecordWriter(str(path), options) as writer:
            for seed in seeds:
                writer.write(example(seed))
    return tmp_path


@functools.cache  # the same example need not be serialized to the same bytes twice
def example(seed: int) -> bytes:
    return training_data.raw_example(training_data.image("red", seed), "red")


def test_files_are_read_in_the_order_of_their_names(artifact: Path) -> None:
    assert list(tfrecords.read(f"{artifact}/Split-train/*")) == [example(seed) for seed in range(5)]


def test_no_more_is_read_than_wanted_over_all_files(artifact: Path) -> None:
    assert list(tfrecords.read(f"{artifact}/Split-train/*", most=4)) == [example(seed) for seed in range(4)]


def test_a_split_without_files_has_no_records(artifact: Path) -> None:
    assert tfrecords.find(f"{artifact}/Split-eval/*") == []
    assert list(tfrecords.read(f"{artifact}/Split-eval/*")) == []


def test_values_are_the_bytes_of_an_example() -> None:
    assert tfrecords.values(example(7)) == {"image/encoded": training_data.image("red", 7), "label": b"red"}
    assert tfrecords.values(tf.train.Example().SerializeToString()) == {}
