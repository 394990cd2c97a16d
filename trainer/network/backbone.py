"""InceptionV3 in a TF1 graph: built whole or split at a cut, under names that a checkpoint can rely on.

Keras names variables after how many layers a process has made before. Here every variable is called
`InceptionV3/<canonical layer>/<weight>`, whatever else was built, so one name-based checkpoint serves the frozen prefix
(FeatureExtractor), the trained suffix (Estimator) and the exported whole.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from core import atomic_io, inception_v3
from core.settings.backbone import BLOCKS, BackboneConfig
from trainer.training import checkpoints
from trainer.weights import sources as weights

POOLED = inception_v3.POOLED
CHECKPOINT = "backbone.ckpt"
SCOPE = "InceptionV3"

_RECORD = "backbone.json"
_SHARED_ARGUMENTS: dict[str, dict[str, Any]] = {
    "Conv2D": {"use_bias": False},
    "BatchNormalization": {"scale": False, "axis": [3]},
    "Activation": {"activation": "relu"},
    "Concatenate": {"axis": 3},
}


@dataclasses.dataclass(frozen=True)
class BackboneRecord:
    """What a backbone directory holds.

    Attributes:
        weights: the setting: `imagenet`, `random`, a path or a TF-Hub handle.
        source: what was really used: `imagenet`, `random`, a handle, or the name of a file or folder.
        random: whether the network is untrained.
        sha256: hex; of the weights' file or files, or of the tensors where they are random.
        image_size: side of the images, in pixels.
    """

    weights: str
    source: str
    random: bool
    sha256: str
    image_size: int


@dataclasses.dataclass(frozen=True)
class Network:
    """A built run of layers.

    Attributes:
        output: the last layer's map, float32 [b, h, w, c].
        blocks: the map of every block that was built, by name.
        variables: per layer that has any, its variables in Keras's order (BatchNorm: beta, mean, variance).
        updates: what moves the BatchNorm statistics of trainable layers by one batch; empty but in training.
    """

    output: tf.Tensor
    blocks: dict[str, tf.Tensor]
    variables: dict[str, list[tf.Variable]]
    updates: list[tf.Operation]


def import_weights(config: BackboneConfig, directory: str) -> BackboneRecord:
    """Writes the backbone directory: a checkpoint of the network's variables, and `backbone.json`.

    The directory appears whole or not at all; one that is there already is replaced.

    Args:
        config: which weights.
        directory: local or remote path.

    Raises:
        InputError: the weights cannot be had or do not fit.
    """
    arrays, source, sha256 = weights.load(config)
    record = BackboneRecord(config.weights, source, source == "random", sha256, config.image_size)
    with atomic_io.staging_directory(directory) as unfinished:
        checkpoints.write(checkpoint_path(unfinished), {f"{SCOPE}/{name}": value for name, value in arrays.items()})
        with tf.io.gfile.GFile(f"{unfinished}/{_RECORD}", "w") as file:
            file.write(json.dumps(dataclasses.asdict(record), indent=1))
        atomic_io.publish(unfinished, directory)
    return record


def read_record(directory: str) -> BackboneRecord:
    """What `import_weights` wrote about the directory. Raises tf.errors.NotFoundError where it wrote none."""
    with tf.io.gfile.GFile(f"{directory.rstrip('/')}/{_RECORD}") as file:
        return BackboneRecord(**json.loads(file.read()))


def checkpoint_path(directory: str) -> str:
    """The checkpoint's prefix, for `init_from_checkpoint` and the like."""
    return f"{directory.rstrip('/')}/{CHECKPOINT}"


def build(
    inputs: tf.Tensor, start: str | None, stop: str, trainable: Collection[str] = (), training: bool = False
) -> Network:
    """Adds the layers from `start` to `stop` to the current graph.

    Layers outside `trainable` are frozen in the sense of Keras: their BatchNorm uses its stored statistics, also in
    training, and never updates them.

    Args:
        inputs: images float32 [b, S, S, 3] in [-1, 1] where `start` is None, else the map of block `start`,
            float32 [b, h, w, c].
        start: the block whose map `inputs` is; None: from the images.
        stop: the last block to build.
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
            variables[spec.name] = _checked(spec, layer.weights)
        options = {"training": training and learns} if spec.kind == "BatchNormalization" else {}
        tensors[spec.name] = layer(read if len(read) > 1 else read[0], **options)
        if training and learns:
            updates.extend(layer.updates)
    blocks = {name: tensor for name, tensor in tensors.items() if name in BLOCKS}
    return Network(tensors[stop], blocks, variables, updates)


def make_layer(spec: inception_v3.Layer, trainable: bool) -> keras.layers.Layer:
    """The Keras layer that `spec` describes, not built yet."""
    arguments = {**spec.arguments, **_SHARED_ARGUMENTS.get(spec.kind, {})}
    return getattr(keras.layers, spec.kind)(name=spec.name, trainable=trainable, **arguments)


def frozen_prefix(images: tf.Tensor, cut: str, *outputs: str) -> tf.Tensor:
    """InceptionV3 in inference mode up to the cut.

    Args:
        images: float32 [b, S, S, 3] in [-1, 1].
        cut: `pooled` or a block.
        outputs: the blocks that `pooled` holds the averages of, one after another; in the network's order.

    Returns:
        float32 [b, c] for `pooled`, c the sum of the blocks' channels, else the block's map [b, h, w, c].
    """
    if cut == POOLED:
        blocks = build(images, None, outputs[-1]).blocks
        return tf.concat([pooled(blocks[name]) for name in outputs], axis=-1)
    return build(images, None, cut).output


def pooled(maps: tf.Tensor) -> tf.Tensor:
    """Global average: [b, h, w, c] to [b, c]."""
    return tf.reduce_mean(maps, axis=[1, 2])


def restore(session: tf.compat.v1.Session, directory: str, instead: str | None = None) -> None:
    """Loads every `InceptionV3/` variable of the session's graph from the backbone checkpoint.

    Adds no operation, so the graph may be finalized.

    Args:
        session: of a graph that was built here.
        directory: of the backbone.
        instead: prefix of another checkpoint, from which the variables it has are loaded.

    Raises:
        tf.errors.NotFoundError: a variable of the graph is not in the checkpoint.
    """
    reader = tf.train.load_checkpoint(checkpoint_path(directory))
    first = tf.train.load_checkpoint(instead) if instead else None
    with session.graph.as_default():
        variables = [v for v in tf.compat.v1.global_variables() if v.op.name.startswith(f"{SCOPE}/")]
    values: dict[tf.Tensor, np.ndarray] = {}
    for variable in variables:
        name = variable.op.name
        source = first if first and first.has_tensor(name) else reader
        values[variable.initializer.inputs[1]] = source.get_tensor(name)
    session.run([v.initializer for v in variables], feed_dict=values)


def _checked(spec: inception_v3.Layer, variables: list[tf.Variable]) -> list[tf.Variable]:
    """Refuses a second copy in one graph: TensorFlow would rename it, and no checkpoint would hold it."""
    names = [checkpoints.name_of(v) for v in variables]
    if names != [f"{SCOPE}/{spec.name}/{weight}" for weight, _ in spec.weights]:
        raise ValueError(f"layer {spec.name} is in this graph already: its second copy would be named {names}")
    return variables
