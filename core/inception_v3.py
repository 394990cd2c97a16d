"""InceptionV3 as data: its layers in Keras's order, how they are connected, and the shape of every weight.

`inception_v3.json` describes `keras.applications.InceptionV3(include_top=False)`, so that rules can be checked without
TensorFlow, and a graph built without the entire Keras model. A test compares it with Keras.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from typing import Any

INPUT = "input_1"  # the name Keras gives the images

POOLED = "pooled"  # the cut after the base: the global average of its output


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of InceptionV3.

    Attributes:
        name: canonical, as in a fresh Keras process and in the published `.h5`.
        kind: name of its class in `keras.layers`.
        inputs: names of the layers it reads; `INPUT` stands for the images.
        arguments: of its class, except those that all layers of its kind share.
        weights: (name, shape) of its variables, in Keras's order.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    arguments: dict[str, Any]
    weights: tuple[tuple[str, tuple[int, ...]], ...]
    channels: int


@functools.cache
def layers() -> tuple[Layer, ...]:
    """The 310 layers after the input, in the order of `keras.Model.layers`: each follows all of its inputs."""
    document = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text())
    channels = {INPUT: 3}
    found = []
    for name, kind, inputs, arguments in document["layers"]:
        read = sum(channels[i] for i in inputs)
        weights: tuple[tuple[str, tuple[int, ...]], ...] = ()
        if kind == "Conv2D":
            weights = (("kernel", (*arguments["kernel_size"], read, arguments["filters"])),)
        elif kind == "BatchNormalization":
            weights = tuple((w, (read,)) for w in ("beta", "moving_mean", "moving_variance"))
        channels[name] = arguments.get("filters", read)
        found.append(Layer(name, kind, tuple(inputs), arguments, weights, channels[name]))
    return tuple(found)


def between(start: str | None, stop: str) -> tuple[Layer, ...]:
    """The layers after block `start` (None: from the images) up to and including block `stop`.

    They are contiguous in `layers()`: Keras orders layers by depth, and every path passes through every block.
    """
    names = [layer.name for layer in layers()]
    first = 0 if start is None else names.index(start) + 1
    return layers()[first : names.index(stop) + 1]
