"""Keras's HDF5 files of InceptionV3, read layer by layer in their order, as Keras does."""

from __future__ import annotations

import pathlib

import h5py
import numpy as np

from core import inception_v3
from core.errors import InputError

Arrays = dict[str, np.ndarray]
"""`<canonical layer>/<weight>` to its value, float32."""


def read_h5(path: pathlib.Path) -> Arrays:
    """Reads a file from `model.save_weights` or `model.save` (`include_top=False`); half precision becomes float32.

    Raises InputError for any other file, with the name and shape of the first tensor that does not fit.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"{path} is not an HDF5 file: {error}. backbone.weights must name a Keras .h5 file."
        ) from error
    with file:
        root = file.get("model_weights", file)
        if "layer_names" not in root.attrs:
            raise InputError(
                f"{path} holds no Keras layers (no attribute 'layer_names'). Write it with Keras 2: "
                "`InceptionV3(include_top=False).save_weights('name.h5')`."
            )
        layers = [root[name] for name in _texts(root, "layer_names")]
        stored = [(name, layer[name]) for layer in layers for name in _texts(layer, "weight_names")]
        wanted = [(f"{layer.name}/{w}", shape) for layer in inception_v3.layers() for w, shape in layer.weights]
        arrays: Arrays = {}
        for (name, shape), (stored_name, data) in zip(wanted, stored, strict=False):
            if data.shape != shape or _last(stored_name) != _last(name):
                raise InputError(
                    f"{path} is not an InceptionV3 without top: its tensor {stored_name} has the shape {data.shape}, "
                    f"where {name} of shape {shape} belongs."
                )
            arrays[name] = np.asarray(data, np.float32)
            if not np.isfinite(arrays[name]).all():
                raise InputError(f"{path} is damaged: its tensor {stored_name} holds NaN or infinity.")
    if len(stored) != len(wanted):
        extra = f" The first one too many is {stored[len(wanted)][0]}." if len(stored) > len(wanted) else ""
        raise InputError(
            f"{path} is not an InceptionV3 without top: it holds {len(stored)} tensors, not {len(wanted)}.{extra} "
            "Save the model with include_top=False."
        )
    return arrays


def _texts(node: h5py.Group, attribute: str) -> list[str]:
    """A list of names; Keras splits a long list into attributes numbered from 0."""
    chunks = [attribute] if attribute in node.attrs else []
    while f"{attribute}{len(chunks)}" in node.attrs:
        chunks.append(f"{attribute}{len(chunks)}")
    return [t.decode() if isinstance(t, bytes) else str(t) for chunk in chunks for t in node.attrs[chunk]]


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1].split(":")[0]
