"""Warm start: what of an earlier model's variables a new training begins with, BatchNorm's statistics included.

The earlier model lies beside the pre-trained weights, packed there by `components.warm_start`. It is only taken where
the frozen part of the network is the same in both, bit for bit: features at the cut mean the same then. The head is
kept where it has the same classes (in another order, its last layer is reordered) and layers; else it begins anew, and
its standardisation is measured anew. The global step and the optimizer's state begin anew always.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import tensorflow as tf

from core import inception_v3, rules
from core.settings.training import TrainerConfig
from trainer.network import backbone, head
from trainer.training import checkpoints

PACKED = "warm_start"
"""Folder in a backbone directory: an earlier model's checkpoint, its classes, and `ORIGIN`."""

VARIABLES, CLASSES, ORIGIN = "variables", "classes.txt", "origin.json"

_CHECKPOINT = "warm_start.ckpt"
_RECORD = "warm_start.json"


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """How a training began.

    Attributes:
        model: the earlier model's URI.
        head: `kept`, `reordered` or `rebuilt`; None if nothing of the model was taken.
        base_layers: how many layers of the base began with the model's values instead of the pre-trained ones.
        why_not: why nothing of the model was taken, or why the head was not.
        checkpoint: prefix of a checkpoint of the variables to begin with; None if there are none.
    """

    model: str
    head: str | None
    base_layers: int
    why_not: str | None
    checkpoint: str | None


def prepare(
    backbone_directory: str, config: TrainerConfig, classes: tuple[str, ...], model_run_dir: str
) -> WarmStart | None:
    """Decides what to take, and writes it as a checkpoint into `model_run_dir`.

    Args:
        backbone_directory: the pre-trained weights, and the packed model.
        config: of the training that begins.
        classes: of the training that begins, in order.
        model_run_dir: of the training that begins.

    Returns:
        None if no model is packed there.
    """
    packed = f"{backbone_directory.rstrip('/')}/{PACKED}"
    if not tf.io.gfile.exists(packed):
        return None
    with tf.io.gfile.GFile(f"{packed}/{ORIGIN}") as file:
        model = json.load(file)["uri"]
    with tf.io.gfile.GFile(f"{packed}/{CLASSES}") as file:
        old_classes = tuple(file.read().splitlines())
    try:
        values = checkpoints.read(f"{packed}/{VARIABLES}")
    except tf.errors.OpError:  # cut short, or a checksum is not right: a new model must be able to take its place
        return _recorded(WarmStart(model, None, 0, "its variables are damaged", None), model_run_dir)
    base, why_not = _base(values, checkpoints.read(backbone.checkpoint_path(backbone_directory)), config)
    if why_not:
        return _recorded(WarmStart(model, None, 0, why_not, None), model_run_dir)
    kept, how, why_not = _head(values, config, old_classes, classes)
    taken = base | kept
    checkpoint = f"{model_run_dir.rstrip('/')}/{_CHECKPOINT}" if taken else None
    if checkpoint:
        tf.io.gfile.makedirs(model_run_dir)
        checkpoints.write(checkpoint, taken)
    layers = len({name.split("/")[1] for name in base})
    return _recorded(WarmStart(model, how, layers, why_not, checkpoint), model_run_dir)


def read_record(model_run_dir: str) -> WarmStart | None:
    """What `prepare` decided when the training in this directory began; None if it began with no earlier model."""
    path = f"{model_run_dir.rstrip('/')}/{_RECORD}"
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as file:
        return WarmStart(**json.load(file))


def _recorded(decided: WarmStart, model_run_dir: str) -> WarmStart:
    tf.io.gfile.makedirs(model_run_dir)
    with tf.io.gfile.GFile(f"{model_run_dir.rstrip('/')}/{_RECORD}", "w") as file:
        json.dump(dataclasses.asdict(decided), file)
    return decided


def _base(
    values: dict[str, np.ndarray], pretrained: dict[str, np.ndarray], config: TrainerConfig
) -> tuple[dict[str, np.ndarray], str | None]:
    """The values of the layers that train; or why none fit."""
    output = config.backbone.output
    trained = rules.trained_layers(config.fine_tune, output)
    taken = {}
    for layer in inception_v3.between(None, output):
        for weight, _ in layer.weights:
            name = f"{backbone.SCOPE}/{layer.name}/{weight}"
            if name not in values:
                return {}, f"it has no layer {layer.name}"
            if layer.name in trained:
                taken[name] = values[name]
            elif not np.array_equal(values[name], pretrained[name]):
                return {}, f"its layer {layer.name}, which is frozen now, is not that of the pre-trained weights"
    return taken, None


def _head(
    values: dict[str, np.ndarray], config: TrainerConfig, old: tuple[str, ...], new: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], str, str | None]:
    """The head's values, and whether it is kept, reordered or rebuilt; and why it is rebuilt."""
    if set(old) != set(new):
        return {}, "rebuilt", f"the classes changed from {', '.join(old)} to {', '.join(new)}"
    output = config.backbone.output
    in_base = {name.split("/")[1] for name in values if name.startswith(f"{backbone.SCOPE}/")}
    if in_base - {layer.name for layer in inception_v3.between(None, output)}:
        return {}, "rebuilt", f"its base went on after {output}, where that of this training ends"
    found = {name: value for name, value in values.items() if name.startswith(f"{head.SCOPE}/")}
    units = tuple(found[f"{head.SCOPE}/hidden_{i}/bias"].size for i in range(len(found) // 2 - 2))
    if units != config.head.hidden_units:
        return {}, "rebuilt", f"its hidden units were {list(units)}, and are {list(config.head.hidden_units)} now"
    if old == new:
        return found, "kept", None
    order = [old.index(name) for name in new]
    for name in ("kernel", "bias"):
        logits = f"{head.SCOPE}/logits/{name}"
        found[logits] = found[logits][..., order]
    return found, "reordered", None
