"""Computes outputs of the trained network for a split, in its own session, since the Estimator's gives only losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from trainer.network import backbone, head
from trainer.network.model import Model, base
from trainer.training import checkpoints, distribution, inputs


def compute(
    model: Model,
    checkpoint: str,
    dataset: Callable[[], tf.data.Dataset],
    outputs: Callable[[tf.Tensor], Sequence[tf.Tensor]],
    values: Mapping[str, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Runs a data set of `trainer.training.inputs` through the network whose trained variables are in `checkpoint`.

    Args:
        outputs: computes the desired tensors [b, ...] from the pooled features, float32 [b, c].
        values: of the variables that `outputs` creates and the checkpoint lacks.

    Returns:
        Each output for all examples, and their labels, int64 [n].
    """
    with tf.Graph().as_default():
        iterator = tf.compat.v1.data.make_initializable_iterator(dataset())
        features, labels = iterator.get_next()
        pooled, _ = base(model, features, training=False)
        of_base = len(tf.compat.v1.global_variables())
        fetches = (*outputs(pooled), labels)
        known = {**checkpoints.read(checkpoint, lambda name: name.startswith(f"{head.SCOPE}/")), **(values or {})}
        rest = tf.compat.v1.global_variables()[of_base:]
        feeds = {variable.initializer.inputs[1]: known[checkpoints.name_of(variable)] for variable in rest}
        with tf.compat.v1.Session(config=distribution.session_config()) as session:
            session.run([tf.compat.v1.tables_initializer(), iterator.initializer])
            backbone.restore(session, model.backbone_directory, instead=checkpoint)
            session.run([variable.initializer for variable in rest], feeds)
            batches = list(inputs.run_to_end(session, fetches))
    return [np.concatenate(part) for part in zip(*batches, strict=True)]
