"""The classifier on the pooled features: standardization, hidden layers with dropout, one logit per class.

Standardization makes one learning rate fit any base: the pooled features of an untrained InceptionV3 vary by 1e-4
around their mean, and a Dense layer on them would learn nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from core.settings.training import HeadConfig
from trainer.training.checkpoints import name_of

SCOPE = "head"

_RELATIVE_EPSILON = 1e-3  # of the mean variance, so that features that hardly vary are not amplified
_ABSOLUTE_EPSILON = 1e-20  # for features that do not vary at all


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean and variance of every pooled feature over training images, float32 [c]."""

    mean: np.ndarray
    variance: np.ndarray


def moments(batches: Iterable[np.ndarray]) -> Moments:
    """The moments of batches of pooled features, float32 [b, c]; one pass in float64 (Chan, Golub & LeVeque 1983)."""
    count, mean, squares = 0, np.zeros(()), np.zeros(())
    for batch in batches:
        exact = batch.astype(np.float64)
        size, center = len(exact), exact.mean(0)
        shift = center - mean
        squares = squares + ((exact - center) ** 2).sum(0) + shift**2 * count * size / (count + size)
        mean = mean + shift * size / (count + size)
        count += size
    return Moments(mean.astype(np.float32), (squares / max(count, 1)).astype(np.float32))


def build(
    pooled: tf.Tensor, config: HeadConfig, classes: int, dropout_seed: tf.Tensor | None, initial: Moments | None
) -> tuple[tf.Tensor, list[tf.Variable]]:
    """Adds the head to the current graph, its variables named `head/<layer>/<weight>`.

    Args:
        pooled: float32 [b, c].
        dropout_seed: int [2]; None outside training, when nothing is dropped.
        initial: the values of the standardization, which never change; None if a checkpoint provides them.

    Returns:
        The logits, float32 [b, classes], and the variables that train.
    """
    width = pooled.shape[-1]
    start = initial or Moments(np.zeros(width, np.float32), np.ones(width, np.float32))
    trained: list[tf.Variable] = []

    def dense(x: tf.Tensor, units: int, name: str, initializer: tf.keras.initializers.Initializer) -> tf.Tensor:
        with tf.compat.v1.variable_scope(name):
            kernel = tf.compat.v1.get_variable("kernel", [x.shape[-1], units], initializer=initializer)
            bias = tf.compat.v1.get_variable("bias", [units], initializer=tf.zeros_initializer())
        trained.extend([kernel, bias])
        return tf.matmul(x, kernel) + bias

    with tf.compat.v1.variable_scope(SCOPE):
        with tf.compat.v1.variable_scope("standardization"):
            mean = tf.compat.v1.get_variable("mean", initializer=start.mean, trainable=False)
            variance = tf.compat.v1.get_variable("variance", initializer=start.variance, trainable=False)
        epsilon = _RELATIVE_EPSILON * tf.reduce_mean(variance) + _ABSOLUTE_EPSILON
        x = (pooled - mean) * tf.math.rsqrt(variance + epsilon)
        for i, units in enumerate(config.hidden_units):
            x = tf.nn.relu(dense(x, units, f"hidden_{i}", tf.compat.v1.keras.initializers.he_normal()))
            if dropout_seed is not None and config.dropout:
                seed = tf.random.experimental.stateless_fold_in(dropout_seed, i)
                x = tf.nn.experimental.stateless_dropout(x, rate=config.dropout, seed=seed)
        logits = dense(x, classes, "logits", tf.compat.v1.keras.initializers.glorot_uniform())
    return logits, trained


def scaled(values: Mapping[str, np.ndarray], temperature: float) -> dict[str, np.ndarray]:
    """A checkpoint's variables, changed so that the logits are divided by a temperature."""
    last = [f"{SCOPE}/logits/{weight}" for weight in ("kernel", "bias")]
    return {**values, **{name: values[name] / np.float32(temperature) for name in last}}


def squared_kernels(trained: Iterable[tf.Variable]) -> tf.Tensor:
    """The sum of the squares of the kernels among `build`'s variables, a scalar; biases are not penalized."""
    return tf.add_n([tf.reduce_sum(tf.square(v)) for v in trained if name_of(v).endswith("/kernel")])
