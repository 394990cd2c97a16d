"""The part of the exported graph that decides which images get no label, and why."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

SCOPE = "abstention"


def values(probability: float, novelty: float) -> dict[str, np.ndarray]:
    """The variables of `reasons`: the lowest probability and the highest novelty for which an image gets a label."""
    thresholds = {"probability": probability, "novelty": novelty}
    return {f"{SCOPE}/{name}": np.array(value, np.float32) for name, value in thresholds.items()}


def reasons(probability: tf.Tensor, novelty: tf.Tensor) -> tf.Tensor:
    """Adds the reasons for withholding labels to the current graph: from float32 [b] to string [b], "" for a label."""
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
