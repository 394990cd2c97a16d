"""InceptionV3 in a TF1 graph: complete or split at a cut, with names that a checkpoint can rely on.

Keras numbers variables by how many layers the process has made before. Here they are always named
`InceptionV3/<canonical layer>/<weight>`, so one checkpoint serves the frozen prefix (FeatureExtractor), the trained
suffix (Estimator) and the exported model.

Networks that only predict are built folded: every convolution has a bias instead of a following BatchNorm. That
computes the same up to rounding, with one pass over memory less: 10 % to 30 % faster. (TensorFlow's own
`optimize_for_inference_lib.fold_batch_norms` does this too, in 95 s. It needs constants, which were no faster than
variables, and took 1.2 GB more memory and 10 s longer to start.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from core import inception_v3
from core.artifacts import backbone as artifact
from core.artifacts import exported_model
from core.settings.backbone import BLOCKS
from trainer.training import checkpoints

POOLED = inception_v3.POOLED
SCOPE = "InceptionV3"

_MAP_SIDE = 12  # cells
_EPSILON = 1e-3  # BatchNorm's, added to the variance
_BATCH_NORM = "BatchNormalization"

_SHARED_ARGUMENTS: dict[str, dict[str, Any]] = {
    _BATCH_NORM: {"scale": False, "axis": [3], "epsilon": _EPSILON},
    "Activation": {"activation": "relu"},
    "Concatenate": {"axis": 3},
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A built run of layers.

    Attributes:
        blocks: the output of every block that was built, float32 [b, h, w, c], by name.
        variables: of each layer that has any, in Keras's order (BatchNorm: beta, mean, variance).
        updates: operations that update the BatchNorm statistics of trainable layers; empty except in training.
    """

    blocks: dict[str, tf.Tensor]
    variables: dict[str, list[tf.Variable]]
    updates: list[tf.Operation]


def build(
    inputs: tf.Tensor,
    start: str | None,
    stop: str,
    trainable: Collection[str] = (),
    training: bool = False,
    folded: bool = False,
) -> Network:
    """Adds the layers from `start` to `stop` to the current graph.

    Layers outside `trainable` are frozen in Keras's sense: their BatchNorm uses its stored statistics even in training,
    and never updates them.

    Args:
        inputs: the output of block `start`, float32 [b, h, w, c]; if it is None, images float32 [b, S, S, 3] in [-1,
            1].
        start: None, or a block; see `core.inception_v3.between`.
        trainable: names of layers that train.
        training: whether trainable BatchNorm uses the batch's statistics, with `updates`.
        folded: whether convolutions have a bias instead of a following BatchNorm; `fold` gives its values.
    """
    tensors = {inception_v3.INPUT if start is None else start: inputs}
    variables: dict[str, list[tf.Variable]] = {}
    updates: list[tf.Operation] = []
    for spec in inception_v3.between(start, stop):
        learns = spec.name in trainable
        read = [tensors[name] for name in spec.inputs]
        if folded and spec.kind == _BATCH_NORM:
            (tensors[spec.name],) = read
            continue
        layer = make_layer(spec, learns, folded)
        if spec.weights:
            # An absolute scope (the closing slash) is never made unique, so the variables get exactly these names.
            with tf.name_scope(f"{SCOPE}/{spec.name}/"):
                layer.build(read[0].shape)
            names = [checkpoints.name_of(variable) for variable in layer.weights]
            weights = [weight for weight, _ in spec.weights] + ["bias"] * folded
            if names != [f"{SCOPE}/{spec.name}/{weight}" for weight in weights]:  # no checkpoint would have it
                raise ValueError(f"layer {spec.name} is in this graph already: its second copy would be named {names}")
            variables[spec.name] = layer.weights
        options = {"training": training and learns} if spec.kind == _BATCH_NORM else {}
        tensors[spec.name] = layer(read if len(read) > 1 else read[0], **options)
        if training and learns:
            updates.extend(layer.updates)
    blocks = {name: tensor for name, tensor in tensors.items() if name in BLOCKS}
    return Network(blocks, variables, updates)


def make_layer(spec: inception_v3.Layer, trainable: bool, folded: bool = False) -> keras.layers.Layer:
    """The Keras layer that `spec` describes, not yet built; a folded convolution has a bias, and starts at zero."""
    arguments = {**spec.arguments, **_SHARED_ARGUMENTS.get(spec.kind, {})}
    if spec.kind == "Conv2D":
        arguments |= {"use_bias": True, "kernel_initializer": "zeros"} if folded else {"use_bias": False}
    return getattr(keras.layers, spec.kind)(name=spec.name, trainable=trainable, **arguments)


def frozen_prefix(images: tf.Tensor, cut: str, *outputs: str) -> tf.Tensor:
    """Folded InceptionV3 up to the cut, from images float32 [b, S, S, 3] in [-1, 1].

    Returns:
        The output of the cut's block, float32 [b, h, w, c]; for the cut `pooled`, the concatenated averages of the
        blocks `outputs` in the network's order, [b, c].
    """
    if cut != POOLED:
        return build(images, None, cut, folded=True).blocks[cut]
    blocks = build(images, None, outputs[-1], folded=True).blocks
    return tf.concat([pooled(blocks[name]) for name in outputs], axis=-1)


def pooled(maps: tf.Tensor) -> tf.Tensor:
    """Global average: [b, h, w, c] to [b, c]."""
    return tf.reduce_mean(maps, axis=[1, 2])


def localizing_map(blocks: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The output of the last block with at least 12 cells per side, or with the most there are; float32 [b, h, w, c].

    At 299 pixels that is mixed7, with 17 cells per side; at 75 it is mixed2, with 7. Every cell of later blocks sees
    nearly the whole image: with random weights, the peak of mixed10 lies on a class-defining patch in only 4 of 10
    images.
    """
    most = max(block.shape[1] for block in blocks.values())
    return [block for block in blocks.values() if block.shape[1] >= min(most, _MAP_SIDE)][-1]


def fold(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The values of a folded network's variables, from a checkpoint's; variables outside the base are kept.

    With s = 1 / sqrt(variance + epsilon), the kernel is multiplied by s, and the bias is beta - mean * s.
    """
    folded = dict(values)
    for norm in inception_v3.layers():
        if norm.kind == _BATCH_NORM and f"{SCOPE}/{norm.name}/{norm.weights[0][0]}" in values:
            beta, mean, variance = (folded.pop(f"{SCOPE}/{norm.name}/{weight}") for weight, _ in norm.weights)
            convolution = f"{SCOPE}/{norm.inputs[0]}"
            scale = _scale(variance)
            folded[f"{convolution}/kernel"] = values[f"{convolution}/kernel"] * scale
            folded[f"{convolution}/bias"] = beta - mean * scale
    return folded


def unfold(folded: Mapping[str, np.ndarray], norms: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `fold`: exact except for the last bits of kernels, which fold to the same values again.

    Args:
        norms: the variables of the BatchNorms, which `folded` does not have.
    """
    values = {**folded, **norms}
    for norm in inception_v3.layers():
        if norm.kind == _BATCH_NORM and f"{SCOPE}/{norm.name}/moving_variance" in norms:
            convolution = f"{SCOPE}/{norm.inputs[0]}"
            del values[f"{convolution}/bias"]
            scale, wanted = _scale(norms[f"{SCOPE}/{norm.name}/moving_variance"]), folded[f"{convolution}/kernel"]
            kernel = wanted / scale
            # Both steps were rounded, so the original is this number or one of its neighbors.
            for near in (np.nextafter(kernel, np.float32(-np.inf)), np.nextafter(kernel, np.float32(np.inf))):
                kernel = np.where(kernel * scale == wanted, kernel, near)
            values[f"{convolution}/kernel"] = kernel
    return values


def unfolded(directory: str) -> dict[str, np.ndarray]:
    """All variables of an exported model, unfolded. Raises tf.errors.OpError if they are missing or damaged."""
    variables, norms = exported_model.checkpoint(directory), exported_model.batch_norms(directory)
    return unfold(checkpoints.read(variables), checkpoints.read(norms))


def _scale(variance: np.ndarray) -> np.ndarray:
    return np.float32(1) / np.sqrt(variance + np.float32(_EPSILON))


def restore(session: tf.compat.v1.Session, directory: str, instead: str | None = None) -> None:
    """Loads every `InceptionV3/` variable of the session's graph, folded or not, from the backbone checkpoint.

    Variables in the checkpoint `instead` are loaded from there. Adds no operation, so the graph may be finalized.
    Raises KeyError for a variable that is in neither.
    """
    with session.graph.as_default():
        variables = {v.op.name: v for v in tf.compat.v1.global_variables() if v.op.name.startswith(f"{SCOPE}/")}
    if not variables:
        return
    values = checkpoints.read(artifact.checkpoint(directory))
    if instead:
        values |= checkpoints.read(instead, values.__contains__)
    folded = fold(values)
    feeds: dict[tf.Tensor, np.ndarray] = {}
    for name, variable in variables.items():
        source = folded if f"{name.rpartition('/')[0]}/bias" in variables else values
        feeds[variable.initializer.inputs[1]] = source[name]
    session.run([variable.initializer for variable in variables.values()], feeds)
