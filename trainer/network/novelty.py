"""How unlike the training images an image is, which a network's class probabilities cannot tell.

It is the distance from the pooled features, scaled to length 1, to the nearest class mean, with a covariance that all
classes share (Mahalanobis; Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples, 2018;
scaled as in Mueller and Hein, Mahalanobis++, 2025). The covariance is that of a probabilistic PCA (Tipping and Bishop
1999), since a few hundred images do not give one of full rank, and this one takes only a megabyte. The output is not
the distance but its rank among those of the eval split, so that it means the same for every network.

Measured with a linear head on 336 flower photos, as the area under the ROC curve for telling 110 others from digits,
noise, textures, stripes, colors and another photo, for ImageNet's mixed10 and mixed8: this method 0.999 and 0.991;
without the scaling 0.991 and 0.983; the nearest training image by cosine (Sun et al. 2022) 0.999 and 0.981.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from scipy import sparse
from sklearn.decomposition import PCA

SCOPE = "novelty"

_COMPONENTS = 128  # of the covariance, at most
_KNOTS = 256  # of the distances' distribution
_TAIL = 0.9  # its quantile beyond which it is assumed to fall exponentially
_LEAST_VARIANCE = 1e-3  # of the mean
_LEAST_MEAN = 1e-15  # for vectors of length 1, so that identical images do not make distances infinite


def directions(pooled: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """The variables of `distance`, from training images: pooled features float32 [n, d] and labels int64 [n]."""
    known = pooled[labels >= 0]
    labels = labels[labels >= 0]
    count, width = known.shape
    known = known / np.maximum(np.linalg.norm(known, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    center = known.mean(axis=0, dtype=np.float64).astype(np.float32)
    known -= center
    of_class = sparse.csr_matrix((np.ones(count, np.float32), (labels, np.arange(count))), (classes, count))
    means = (of_class @ known) / np.maximum(np.bincount(labels, minlength=classes), 1)[:, None]
    deviations = known - means[labels]
    mean_variance = float(np.square(deviations, dtype=np.float64).mean())
    components, variances = np.zeros((width, _COMPONENTS)), np.ones(_COMPONENTS)
    explained = 0.0
    rank = min(_COMPONENTS, count // 2, width // 2) if mean_variance > _LEAST_MEAN else 0
    mean_variance = max(mean_variance, _LEAST_MEAN)
    if rank:
        found = PCA(rank, svd_solver="randomized", iterated_power=2, random_state=0).fit(deviations)
        components[:, :rank] = found.components_.T
        variances[:rank] = np.maximum(found.explained_variance_, _LEAST_VARIANCE * mean_variance)
        explained = float(found.explained_variance_.sum())
    rest = max((mean_variance * width - explained) / (width - rank), _LEAST_VARIANCE * mean_variance)
    whitened = _whitened(means, components, components.T, variances, rest)
    values = {
        "center": center,
        "means": np.concatenate(whitened, axis=1),
        "components": components,
        "variances": variances,
        "variance_of_rest": np.array(rest),
    }
    return {f"{SCOPE}/{name}": value.astype(np.float32) for name, value in values.items()}


def quantiles(distances: np.ndarray) -> dict[str, np.ndarray]:
    """The variables of `rank`, from the distances of the eval split's images, float32 [n]."""
    knots = np.quantile(distances, np.linspace(0, 1, _KNOTS))
    start = np.quantile(distances, _TAIL)
    excess = (distances[distances >= start] - start).mean()
    scale = max(float(excess), 0.01 * float(np.median(distances)), float(np.finfo(np.float32).tiny))
    values = {"knots": knots, "images": np.array(len(distances)), "tail": np.array(scale)}
    return {f"{SCOPE}/{name}": np.asarray(value, np.float32) for name, value in values.items()}


def distance(pooled: tf.Tensor, classes: int) -> tf.Tensor:
    """Adds the distance of pooled features, float32 [b, d], to the current graph: float32 [b]."""
    width = pooled.shape[-1]
    with tf.compat.v1.variable_scope(SCOPE):
        center = _variable("center", [width])
        means = _variable("means", [classes, _COMPONENTS + width])  # whitened
        components = _variable("components", [width, _COMPONENTS])
        variances = _variable("variances", [_COMPONENTS])
        rest = _variable("variance_of_rest", [])
    x = tf.math.l2_normalize(pooled, axis=-1) - center
    place = tf.concat(_whitened(x, components, tf.transpose(components), variances, rest), axis=-1)
    # Products suffice to find the nearest mean; its distance needs the difference, as squares lose their last bits.
    squares = tf.reduce_sum(tf.square(means), axis=-1) - 2 * tf.matmul(place, means, transpose_b=True)
    return tf.norm(place - tf.gather(means, tf.argmin(squares, axis=-1)), axis=-1)


def rank(distances: tf.Tensor) -> tf.Tensor:
    """Adds the fraction of the eval images at smaller distances, in [0, 1], to the current graph: float32 [b].

    It is interpolated linearly; beyond the farthest of n images it continues from n / (n + 1) with an exponential tail,
    so that even farther images can be distinguished.
    """
    with tf.compat.v1.variable_scope(SCOPE):
        knots = _variable("knots", [_KNOTS])
        images = _variable("images", [])
        scale = _variable("tail", [])
    above = tf.clip_by_value(tf.searchsorted(knots, distances), 1, _KNOTS - 1)
    low, high = tf.gather(knots, above - 1), tf.gather(knots, above)
    part = tf.clip_by_value(tf.math.divide_no_nan(distances - low, high - low), 0.0, 1.0)
    inside = (tf.cast(above - 1, tf.float32) + part) / (_KNOTS - 1) * images / (images + 1)
    beyond = 1 - tf.exp(-tf.maximum(distances - knots[-1], 0.0) / scale) / (images + 1)
    return tf.where(distances > knots[-1], beyond, inside)


def _whitened(x: Any, components: Any, transposed: Any, variances: Any, rest: Any) -> tuple[Any, Any]:
    """Coordinates in which the shared covariance is the identity, from [n, d] to [n, 128] and [n, d]; arrays or
    tensors.
    """
    along = x @ components
    return along * variances**-0.5, (x - along @ transposed) * rest**-0.5


def _variable(name: str, shape: list[int]) -> tf.Variable:
    return tf.compat.v1.get_variable(name, shape, initializer=tf.zeros_initializer(), trainable=False)
