"""Warm start: which of an earlier model's variables, BatchNorm statistics included, a new training begins with.

`components.warm_start` packs the earlier model beside the pre-trained weights. It is used only if the frozen layers of
both are equal bit for bit, so that features at the cut mean the same. The head is kept if it has the same layers and
classes (its last layer is reordered if the classes are); otherwise it is rebuilt, with a new standardization.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import tensorflow as tf

from core import inception_v3, rules
from core.artifacts import backbone as artifact
from core.artifacts import exported_model
from core.artifacts.base import JsonFile
from core.artifacts.training_summary import WarmStart
from core.errors import some
from core.settings.training import TrainerConfig
from trainer.network import backbone, head
from trainer.training import checkpoints

_RECORD = JsonFile("warm_start.json", WarmStart)


def prepare(directory: str, config: TrainerConfig, classes: tuple[str, ...], model_run_dir: str) -> WarmStart | None:
    """Decides what a training takes over, and writes it to `model_run_dir`; None if `directory` has no packed model."""
    if not tf.io.gfile.exists(artifact.PACKED.path(directory)):
        return None
    decided, taken = _decide(directory, config, classes)
    tf.io.gfile.makedirs(model_run_dir)
    if taken:
        decided = dataclasses.replace(decided, checkpoint=f"{model_run_dir.rstrip('/')}/warm_start.ckpt")
        checkpoints.write(str(decided.checkpoint), taken)
    _RECORD.write(model_run_dir, decided)
    return decided


def read_record(model_run_dir: str) -> WarmStart | None:
    """What `prepare` decided when the training in this directory began."""
    return _RECORD.read(model_run_dir) if tf.io.gfile.exists(_RECORD.path(model_run_dir)) else None


def _decide(directory: str, config: TrainerConfig, classes: tuple[str, ...]) -> tuple[WarmStart, dict[str, np.ndarray]]:
    """What is taken over, and the variables by name."""
    nothing = WarmStart(artifact.PACKED.read(directory).uri, None, 0, None, None)
    packed = artifact.packed_model(directory)
    try:
        values = backbone.unfolded(packed)
    except tf.errors.OpError:  # truncated, or a checksum does not match: a new model must be able to replace it
        return dataclasses.replace(nothing, why_not="its variables are damaged"), {}
    base, why_not = _base(values, checkpoints.read(artifact.checkpoint(directory)), config)
    if why_not:
        return dataclasses.replace(nothing, why_not=why_not), {}
    old = tuple(exported_model.class_names(packed))
    kept, fate, why_not = _head(values, config, old, classes)
    layers = len({name.split("/")[1] for name in base})
    return dataclasses.replace(nothing, head=fate, base_layers=layers, why_not=why_not), base | kept


def _base(
    values: dict[str, np.ndarray], pretrained: dict[str, np.ndarray], config: TrainerConfig
) -> tuple[dict[str, np.ndarray], str | None]:
    """The values of the layers that train; or why none fit."""
    output = config.backbone.output
    trained = rules.trained_layers(config.fine_tune, output)
    # Folded values are compared, since an exported model has its exact kernels only in that form.
    found, wanted = ({**variables, **backbone.fold(variables)} for variables in (values, pretrained))
    taken = {}
    for layer in inception_v3.between(None, output):
        for weight, _ in layer.weights:
            name = f"{backbone.SCOPE}/{layer.name}/{weight}"
            if name not in values:
                return {}, f"it has no layer {layer.name}"
            if layer.name in trained:
                taken[name] = values[name]
            elif not np.array_equal(found[name], wanted[name]):
                return {}, f"its layer {layer.name}, which is frozen now, is not that of the pre-trained weights"
    return taken, None


def _head(
    values: dict[str, np.ndarray], config: TrainerConfig, old: tuple[str, ...], new: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], Literal["kept", "reordered", "rebuilt"], str | None]:
    """The head's values, and whether it is kept, reordered or rebuilt, and why it is rebuilt."""
    if set(old) != set(new):
        return {}, "rebuilt", f"the classes changed from {some(old)} to {some(new)}"
    output = config.backbone.output
    in_base = {name.split("/")[1] for name in values if name.startswith(f"{backbone.SCOPE}/")}
    if in_base - {layer.name for layer in inception_v3.between(None, output)}:
        return {}, "rebuilt", f"its base continued after {output}, where that of this training ends"
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
