"""The Trainer's run_fn: trains, exports the whole network, and writes down what was done."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from core import progress
from core.settings import converter
from core.settings.training import TrainerConfig
from trainer.export import saved_model
from trainer.network import backbone, head
from trainer.training import checkpoints, resume, search_space, summary, train_loop, warm_start

if TYPE_CHECKING:  # imports all of TFX's components, 16 s
    from tfx.components.trainer.fn_args_utils import FnArgs


def run_fn(fn_args: FnArgs) -> None:
    """TFX Trainer's entry point; goes on where a call with the same arguments was killed (`resumption`).

    Args:
        fn_args: `train_files` and `eval_files` are features (FeatureExtractor's) or raw examples; `base_model` is the
            backbone directory; `custom_config["trainer"]` is a TrainerConfig as a dict, and `train_steps`, which a run
            may be started with, takes the place of its steps; `hyperparameters` are the Tuner's best, or None.

    Raises:
        InputError: the rules of `fine_tune` do not fit the network, the eval split is of no use, or training diverged.
        ValueError: the features were taken at another cut than the rules imply.
    """
    started = time.monotonic()
    settings = converter.from_dict(fn_args.custom_config["trainer"], TrainerConfig)
    training = dataclasses.replace(settings.training, steps=fn_args.train_steps)
    settings = dataclasses.replace(settings, training=training)
    if fn_args.hyperparameters:
        settings = search_space.apply(fn_args.hyperparameters["values"], settings)
    went_on_at = resume.go_on(fn_args)
    fitted = train_loop.fit(settings, fn_args)
    if not fitted.estimator.config.is_chief:
        return
    steps = checkpoints.step(fitted.estimator.latest_checkpoint())
    progress.report(steps, fitted.model.config.training.steps, "steps", "exporting the whole network")
    saved_model.export_model(
        fitted.estimator,
        fitted.evaluations.best_checkpoint,
        fn_args.base_model,
        fn_args.transform_graph_path,
        fn_args.serving_model_dir,
        settings.limits,
    )
    content = summary.training_summary(
        fitted.model,
        backbone.read_record(fn_args.base_model),
        _head_parameters(fitted.evaluations.best_checkpoint),
        fitted.evaluations,
        steps,
        time.monotonic() - started,
        warm_start.read_record(fn_args.model_run_dir),
        (*fitted.notes, *summary.notes_on_resumption(went_on_at), *summary.notes_on_best(fitted.evaluations)),
    )
    with tf.io.gfile.GFile(f"{fn_args.model_run_dir.rstrip('/')}/{summary.FILE_NAME}", "w") as file:
        json.dump(content, file, indent=1)
    best = fitted.evaluations.best
    note = f"best at step {best['step']}: eval loss {best['loss']:.3f}, accuracy {best['accuracy']:.3f}"
    progress.report(steps, fitted.model.config.training.steps, "steps", note)


def _head_parameters(checkpoint: str) -> int:
    names = tf.train.list_variables(checkpoint)
    return sum(int(np.prod(s)) for n, s in names if n.startswith(f"{head.SCOPE}/") and n.endswith(("kernel", "bias")))
