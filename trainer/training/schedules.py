"""The learning rate over the steps of a run."""

import tensorflow as tf

from core.settings.training import LearningRateConfig


def learning_rate(config: LearningRateConfig, step: tf.Tensor, steps: int) -> tf.Tensor:
    """The rate of a step; `config` says how it is made.

    Args:
        config: the schedule.
        step: int64 scalar, the steps done so far. `piecewise` has `values[i]` up to and including step `boundaries[i]`.
        steps: of the whole training.

    Returns:
        float32 scalar.
    """
    rate = _scheduled(config, step, steps)
    if not config.warmup_steps:
        return rate
    return rate * tf.minimum(1.0, tf.cast(step + 1, tf.float32) / config.warmup_steps)


def _scheduled(config: LearningRateConfig, step: tf.Tensor, steps: int) -> tf.Tensor:
    first = config.values[0]
    falling = tf.maximum(step - config.warmup_steps, 0)
    span = config.decay_steps or max(steps - config.warmup_steps, 1)
    if config.schedule == "cosine":
        end = (config.end or 0.0) / first if first else 0.0
        return tf.compat.v1.train.cosine_decay(first, falling, span, alpha=end)
    if config.schedule == "exponential":
        return tf.compat.v1.train.exponential_decay(first, falling, span, config.decay_rate)
    if not config.boundaries:
        return tf.constant(first, tf.float32)
    return tf.compat.v1.train.piecewise_constant(step, list(config.boundaries), list(config.values))
