"""What the peers share: their options, the pictures of a split, and how they print what they reached."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf


def options(about: str) -> argparse.Namespace:
    """The options of a peer: a folder with train/, val/ and test/ of class folders, weights, size, epochs, batch."""
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", default="imagenet", help="imagenet, random, or a Keras .h5 file")
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    return parser.parse_args()


def split(given: argparse.Namespace, name: str, shuffle: bool = False) -> tf.data.Dataset:
    """Batches of (pixels from -1 to 1, label) of a split, read and decoded anew in each epoch."""
    data = tf.keras.utils.image_dataset_from_directory(
        given.data / name, image_size=(given.size, given.size), batch_size=given.batch, shuffle=shuffle, seed=1
    )
    scaled = data.map(lambda pixels, label: (pixels / 127.5 - 1, label), tf.data.AUTOTUNE)
    return scaled.prefetch(tf.data.AUTOTUNE)


def base(given: argparse.Namespace) -> tf.keras.Model:
    """Keras's InceptionV3 without its top, frozen."""
    model = tf.keras.applications.InceptionV3(
        include_top=False,
        weights=None if given.weights == "random" else given.weights,
        input_shape=(given.size, given.size, 3),
    )
    model.trainable = False
    return model


def classes(given: argparse.Namespace) -> int:
    """How many."""
    return sum(path.is_dir() for path in (given.data / "train").iterdir())


def steps(given: argparse.Namespace) -> int:
    """Of an epoch."""
    return -(-sum(path.is_file() for path in (given.data / "train").rglob("*")) // given.batch)


def report(train: Callable[[], float]) -> None:
    """Prints the accuracy on test as JSON, in a line of its own."""
    tf.keras.utils.set_random_seed(1)
    print(f"\n{train():.4f}")
