"""Which images get no label, and why, in the exported graph."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

SCOPE = "abstention"


def values(probability: float, novelty: float) -> dict[str, np.ndarray]:
    """The variables of `reasons`: the least probability and the greatest novelty with which an image gets a label."""
    thresholds = {"probability": probability, "novelty": novelty}
    return {f"{SCOPE}/{name}": np.array(value, np.float32) for name, value in thresholds.items()}


def reasons(probability: tf.Tensor, novelty: tf.Tensor) -> tf.Tensor:
    """Adds why images get no label to the current graph: string [b], empty where they get one; from float32 [b]."""
    with tf.compat.v1.variable_scope(SCOPE):
        least, most = (
            tf.compat.v1.get_variable(name, [], initializer=tf.zeros_initializer(), trainable=False)
            for name in ("probability", "novelty")
        )

    def words(name: str, value: tf.Tensor, side: str, threshold: tf.Tensor) -> tf.Tensor:
        text = (tf.strings.as_string(number, precision=4) for number in (value, threshold))
        return tf.strings.join([f"{name} ", next(text), f" is {side} ", next(text)])

    improbable = words("probability", probability, "below", least)
    novel = words("novelty", novelty, "above", most)
    return tf.where(novelty > most, novel, tf.where(probability < least, improbable, ""))
