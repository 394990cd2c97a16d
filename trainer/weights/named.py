"""Reads checkpoints and SavedModels of InceptionV3 by the names of their tensors: TF-slim's, Keras's, and our own.

Slim and Keras create their convolutions in the same order, so the k-th of `SLIM_SCOPES` is Keras's `conv2d_k` with
`batch_normalization_k`. Both have BatchNorm without gamma and with epsilon 0.001, and scale images to [-1, 1].
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from core import inception_v3
from core.errors import InputError
from trainer.network import backbone
from trainer.training import checkpoints
from trainer.weights.h5 import Arrays

_SCOPE = "InceptionV3"  # slim's, and ours
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_NORM = ("beta", "moving_mean", "moving_variance")  # the weights of a BatchNorm

SLIM_SCOPES = tuple(pathlib.Path(__file__).with_name("named.slim_scopes.txt").read_text().split())
"""The scopes of slim's 94 convolutions below `InceptionV3/`, in the order of their creation.

Source: `tf_slim/nets/inception_v3.py`; `inception_v3_2016_08_28.tar.gz` has the same names.
"""


def read(prefix: str, where: str, output: str) -> Arrays:
    """Reads the network's tensors, in its order, from a checkpoint, which may be inside a SavedModel.

    Args:
        prefix: of the checkpoint, or its path for TensorFlow's first format (one file); a model of this pipeline is
            unfolded.
        where: the user's name for it, for messages.
        output: the last block that must be present; layers beyond it are read if the file has them.

    Raises InputError for any other file, with the name and shape of the first tensor that is missing or does not fit.
    """
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes = reader.get_variable_to_shape_map()
        keys = _keys(reader, shapes)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{where} is neither a Keras .h5 file nor a TensorFlow checkpoint: {reason}") from error
    tensor: Callable[[str], np.ndarray] = functools.partial(checkpoints.tensor, reader)
    if f"{_SCOPE}/conv2d/bias" in keys:  # a model of this pipeline
        try:
            values = backbone.unfolded(prefix.rsplit("/", 2)[0])
        except tf.errors.OpError as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{where} is damaged: it cannot be unfolded: {reason}") from error
        keys, tensor = {name: name for name in values}, values.__getitem__
        shapes = {name: value.shape for name, value in values.items()}
    names = tensor_names(keys, where)
    scales = (theirs.removesuffix("beta") + "gamma" for name, theirs in names.items() if name.endswith("/beta"))
    gamma = next((scale for scale in scales if scale in keys), None)
    if gamma:
        raise InputError(
            f"{where} has a BatchNorm with gamma ({gamma}), which InceptionV3 of slim and Keras has not. Multiply the "
            "kernel before it and its moving_mean by gamma, and leave gamma out: docs/fine-tuning.md says when that is "
            "exact."
        )
    needed = {layer.name for layer in inception_v3.between(None, output)}
    arrays = {}
    for layer in inception_v3.layers():
        theirs = {weight: names.get(f"{layer.name}/{weight}", "") for weight, _ in layer.weights}
        if layer.name not in needed and not all(name in keys for name in theirs.values()):
            continue
        for weight, shape in layer.weights:
            name = theirs[weight]
            if name not in keys:
                raise InputError(
                    f"{where} is not a complete InceptionV3: it has no tensor {name or f'for {layer.name}/{weight}'}, "
                    f"which would have the shape {shape}. backbone.output: {output} needs it."
                )
            found = tuple(shapes[keys[name]])
            if found != shape:
                raise InputError(
                    f"{where} does not fit InceptionV3: its tensor {name} has the shape {found}, where "
                    f"{layer.name}/{weight} of shape {shape} belongs."
                )
            try:
                value = np.asarray(tensor(keys[name])).astype(np.float32)
            except tf.errors.OpError as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"{where} is damaged: its tensor {name} cannot be read: {reason}") from error
            if not np.isfinite(value).all():
                raise InputError(f"{where} is damaged: its tensor {name} holds NaN or infinity.")
            arrays[f"{layer.name}/{weight}"] = value
    return arrays


def _keys(reader: tf.train.CheckpointReader, shapes: Iterable[str]) -> dict[str, str]:  # type: ignore[name-defined]
    """Maps variable names to checkpoint keys; TF2 uses the path of Python attributes as key, and stores the name."""
    if _OBJECT_GRAPH not in shapes:
        return {name: name for name in shapes}
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(reader.get_tensor(_OBJECT_GRAPH))
    attributes = [attribute for node in graph.nodes for attribute in node.attributes]
    return {a.full_name or a.checkpoint_key: a.checkpoint_key for a in attributes if a.checkpoint_key in shapes}


def tensor_names(found: Iterable[str], where: str) -> Mapping[str, str]:
    """Maps our names, `<layer>/<weight>`, to those `found` in `where`. Raises InputError if they are unknown."""
    found = list(found)
    if f"{_SCOPE}/conv2d/kernel" in found:
        ours = [f"{layer.name}/{weight}" for layer in inception_v3.layers() for weight, _ in layer.weights]
        return {name: f"{_SCOPE}/{name}" for name in ours}
    first = f"{_SCOPE}/{SLIM_SCOPES[0]}/weights"
    for name in found:
        if name == first or name.endswith(f"/{first}"):
            return _slim(name.removesuffix(f"{SLIM_SCOPES[0]}/weights"))
    if names := _keras(found):
        return names
    some = ", ".join(sorted(found)[:3]) or "none"
    raise InputError(
        f"{where} holds no InceptionV3 known here: neither TF-slim's names ({first}), nor Keras's (conv2d/kernel), nor "
        f"this pipeline's ({_SCOPE}/conv2d/kernel). Its first tensors: {some}."
    )


def _slim(scope: str) -> dict[str, str]:
    names = {}
    for number, slim in enumerate(SLIM_SCOPES):
        suffix = f"_{number}" if number else ""
        names[f"conv2d{suffix}/kernel"] = f"{scope}{slim}/weights"
        for weight in _NORM:
            names[f"batch_normalization{suffix}/{weight}"] = f"{scope}{slim}/BatchNorm/{weight}"
    return names


def _keras(found: Iterable[str]) -> dict[str, str]:
    """Maps by order: Keras numbers layers throughout a process, so a network's first convolution may be `conv2d_94`."""
    names: dict[str, str] = {}
    for kind, weights in (("conv2d", ("kernel",)), ("batch_normalization", _NORM)):
        matches = [m for m in (re.fullmatch(rf"({kind}(?:_(\d+))?)/{weights[0]}", name) for name in found) if m]
        for number, match in enumerate(sorted(matches, key=lambda m: int(m[2] or 0))):
            suffix = f"_{number}" if number else ""
            names |= {f"{kind}{suffix}/{weight}": f"{match[1]}/{weight}" for weight in weights}
    return names if "conv2d/kernel" in names else {}
