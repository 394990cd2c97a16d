"""Reads and writes name-based TensorFlow checkpoints as arrays, without building a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf


def read(prefix: str, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, np.ndarray]:
    """The tensors whose names `wanted` accepts. Raises tf.errors.OpError if the checkpoint is missing or damaged."""
    reader = tf.train.load_checkpoint(prefix)
    return {name: tensor(reader, name) for name in sorted(reader.get_variable_to_shape_map()) if wanted(name)}


def tensor(reader: tf.train.CheckpointReader, name: str) -> np.ndarray:  # type: ignore[name-defined]
    """One tensor of an open checkpoint. Raises tf.errors.OpError if it is damaged."""
    try:
        return reader.get_tensor(name)
    except IndexError as error:  # what TensorFlow's reader raises for a file that was cut short
        raise tf.errors.DataLossError(None, None, str(error)) from error


def name_of(variable: tf.Variable) -> str:
    """A variable's name in checkpoints, even if it is mirrored on several devices."""
    return variable.name.split(":")[0]


def step(prefix: str | None) -> int:
    """The global step of a checkpoint; 0 if there is none."""
    return 0 if prefix is None else int(tf.train.load_variable(prefix, tf.compat.v1.GraphKeys.GLOBAL_STEP))


def write(prefix: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a checkpoint that `tf.compat.v1.train.Saver` and `init_from_checkpoint` read; its folder must exist."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tensors = [tf.compat.v1.placeholder(value.dtype, value.shape) for value in arrays.values()]
        save = tf.raw_ops.SaveV2(
            prefix=prefix, tensor_names=list(arrays), shape_and_slices=[""] * len(arrays), tensors=tensors
        )
        session.run(save, feed_dict=dict(zip(tensors, arrays.values(), strict=True)))
