"""The learning rate over the steps of a run."""

import tensorflow as tf

from trainer.config import LearningRateConfig


def learning_rate(config: LearningRateConfig, step: tf.Tensor) -> tf.Tensor:
    """Piecewise constant: `values[i]` up to and including step `boundaries[i]`, then the next.

    Args:
        config: the values and boundaries.
        step: int64 scalar, the steps done so far.

    Returns:
        float32 scalar.
    """
    if not config.boundaries:
        return tf.constant(config.values[0], tf.float32)
    return tf.compat.v1.train.piecewise_constant(step, list(config.boundaries), list(config.values))
