"""One training step: the learning rate, one backward pass, and an optimizer for every multiplier."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import tensorflow as tf

from core.settings.training import LearningRateConfig, TrainingConfig


def step(
    config: TrainingConfig,
    loss: tf.Tensor,
    of_head: Sequence[tf.Variable],
    of_base: Sequence[tuple[tf.Variable, float]],
    updates: Sequence[tf.Operation],
    head_only: bool,
) -> tf.Operation:
    """Makes the operation that trains on one batch and increments the global step.

    A multiplier scales the rate of its group's own optimizer; scaling the gradients would have no effect with Adam and
    RMSprop, which divide by their size. With `head_only`, the base's optimizers are created, so that their state is in
    the checkpoints for the next phase, but do not run; nor does the backward pass through the base.

    Args:
        of_base: the base's trainable variables, each with the multiplier of its rate.
        updates: of BatchNorm's statistics.
    """
    counter = tf.compat.v1.train.get_or_create_global_step()
    done = tf.identity(counter)  # read once: an optimizer may count the step while another still uses the rate
    rate = learning_rate(config.learning_rate, done, config.steps)
    tf.compat.v1.summary.scalar("learning_rate", rate)
    groups: dict[float, list[tf.Variable]] = collections.defaultdict(list)
    for variable, multiplier in of_base:
        groups[multiplier].append(variable)
    variables = [*of_head, *(v for _, group in sorted(groups.items()) for v in group)]
    replicas = tf.distribute.get_strategy().num_replicas_in_sync  # the optimizers add up their gradients
    gradients = dict(zip([v.ref() for v in variables], tf.gradients(loss / replicas, variables), strict=True))

    def apply(multiplier: float, group: Sequence[tf.Variable], counter: tf.Variable | None = None) -> tf.Operation:
        pairs = [(gradients[v.ref()], v) for v in group]
        return _optimizer(config, rate * multiplier).apply_gradients(pairs, counter)

    train_base = [apply(multiplier, group) for multiplier, group in sorted(groups.items())]
    train_head = apply(1.0, of_head, counter)
    return train_head if head_only else tf.group(train_head, *train_base, *updates)


def _optimizer(config: TrainingConfig, rate: tf.Tensor) -> tf.compat.v1.train.Optimizer:
    if config.optimizer == "adam":
        return tf.compat.v1.train.AdamOptimizer(rate)
    if config.optimizer == "rmsprop":
        return tf.compat.v1.train.RMSPropOptimizer(rate, momentum=config.momentum or 0.0)
    return tf.compat.v1.train.MomentumOptimizer(rate, momentum=0.9 if config.momentum is None else config.momentum)


def learning_rate(config: LearningRateConfig, step: tf.Tensor, steps: int) -> tf.Tensor:
    """The rate after `step` (int64 scalar) of `steps` steps, a float32 scalar.

    `piecewise` has `values[i]` up to and including step `boundaries[i]`.
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
