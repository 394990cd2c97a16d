"""InceptionV3 in a TF1 graph: complete or split at a cut, under names that a checkpoint can rely on.

Keras names variables after how many layers a process has made before. Here they are always called
`InceptionV3/<canonical layer>/<weight>`, so one checkpoint serves the frozen prefix (FeatureExtractor), the trained
suffix (Estimator) and the exported model.
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
from core.settings.backbone import BLOCKS
from trainer.training import checkpoints

POOLED = inception_v3.POOLED
SCOPE = "InceptionV3"

_MAP_SIDE = 12  # cells

_SHARED_ARGUMENTS: dict[str, dict[str, Any]] = {
    "Conv2D": {"use_bias": False},
    "BatchNormalization": {"scale": False, "axis": [3]},
    "Activation": {"activation": "relu"},
    "Concatenate": {"axis": 3},
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A built run of layers.

    Attributes:
        blocks: the map of every block that was built, float32 [b, h, w, c], by name.
        variables: per layer that has any, its variables in Keras's order (BatchNorm: beta, mean, variance).
        updates: what moves the BatchNorm statistics of trainable layers by one batch; empty but in training.
    """

    blocks: dict[str, tf.Tensor]
    variables: dict[str, list[tf.Variable]]
    updates: list[tf.Operation]


def build(
    inputs: tf.Tensor, start: str | None, stop: str, trainable: Collection[str] = (), training: bool = False
) -> Network:
    """Adds the layers from `start` to `stop` to the current graph.

    Layers outside `trainable` are frozen in the sense of Keras: their BatchNorm uses its stored statistics, also in
    training, and never updates them.

    Args:
        inputs: the map of block `start`, float32 [b, h, w, c]; images float32 [b, S, S, 3] in [-1, 1] where it is None.
        start: None, or a block; see `core.inception_v3.between`.
        trainable: names of layers that train.
        training: whether trainable BatchNorm uses the batch's statistics, and `updates` are made.
    """
    tensors = {inception_v3.INPUT if start is None else start: inputs}
    variables: dict[str, list[tf.Variable]] = {}
    updates: list[tf.Operation] = []
    for spec in inception_v3.between(start, stop):
        learns = spec.name in trainable
        layer = make_layer(spec, learns)
        read = [tensors[name] for name in spec.inputs]
        if spec.weights:
            # An absolute scope (the closing slash) is never made unique, so the variables get exactly these names.
            with tf.name_scope(f"{SCOPE}/{spec.name}/"):
                layer.build(read[0].shape)
            names = [checkpoints.name_of(variable) for variable in layer.weights]
            if names != [f"{SCOPE}/{spec.name}/{weight}" for weight, _ in spec.weights]:  # no checkpoint would have it
                raise ValueError(f"layer {spec.name} is in this graph already: its second copy would be named {names}")
            variables[spec.name] = layer.weights
        options = {"training": training and learns} if spec.kind == "BatchNormalization" else {}
        tensors[spec.name] = layer(read if len(read) > 1 else read[0], **options)
        if training and learns:
            updates.extend(layer.updates)
    blocks = {name: tensor for name, tensor in tensors.items() if name in BLOCKS}
    return Network(blocks, variables, updates)


def make_layer(spec: inception_v3.Layer, trainable: bool) -> keras.layers.Layer:
    """The Keras layer that `spec` describes, not built yet."""
    arguments = {**spec.arguments, **_SHARED_ARGUMENTS.get(spec.kind, {})}
    return getattr(keras.layers, spec.kind)(name=spec.name, trainable=trainable, **arguments)


def frozen_prefix(images: tf.Tensor, cut: str, *outputs: str) -> tf.Tensor:
    """InceptionV3 in inference mode up to the cut, from images float32 [b, S, S, 3] in [-1, 1].

    Returns:
        The cut block's map, float32 [b, h, w, c]; where the cut is `pooled`, the averages of the blocks `outputs`, in
        the network's order, one after another: [b, c].
    """
    if cut != POOLED:
        return build(images, None, cut).blocks[cut]
    blocks = build(images, None, outputs[-1]).blocks
    return tf.concat([pooled(blocks[name]) for name in outputs], axis=-1)


def pooled(maps: tf.Tensor) -> tf.Tensor:
    """Global average: [b, h, w, c] to [b, c]."""
    return tf.reduce_mean(maps, axis=[1, 2])


def localizing_map(blocks: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The last block's map, float32 [b, h, w, c], of at least 12 cells a side, or of the most there are.

    At 299 pixels that is mixed7, 17 cells a side; at 75 mixed2, 7. Later ones see nearly all of the image in every
    cell: with random weights, the peak of mixed10 lies on a patch that decides the class in 4 of 10 images.
    """
    most = max(block.shape[1] for block in blocks.values())
    return [block for block in blocks.values() if block.shape[1] >= min(most, _MAP_SIDE)][-1]


def restore(session: tf.compat.v1.Session, directory: str, instead: str | None = None) -> None:
    """Loads every `InceptionV3/` variable of the session's graph from the backbone checkpoint.

    What the checkpoint of the prefix `instead` has is loaded from there. No operation is added: the graph may be final.
    Raises tf.errors.NotFoundError for a variable that is in neither.
    """
    reader = tf.train.load_checkpoint(artifact.checkpoint(directory))
    first = tf.train.load_checkpoint(instead) if instead else None
    with session.graph.as_default():
        variables = [v for v in tf.compat.v1.global_variables() if v.op.name.startswith(f"{SCOPE}/")]
    values: dict[tf.Tensor, np.ndarray] = {}
    for variable in variables:
        name = variable.op.name
        source = first if first and first.has_tensor(name) else reader
        values[variable.initializer.inputs[1]] = source.get_tensor(name)
    session.run([v.initializer for v in variables], feed_dict=values)
