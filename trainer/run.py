"""The Trainer's run_fn: trains, exports the complete network, and writes the training summary."""

from __future__ import annotations

import dataclasses
import logging
import math
import time

import tensorflow as tf

from core import progress
from core.artifacts import search
from core.settings import converter
from core.settings.training import TrainerConfig
from trainer.arguments import FnArgs
from trainer.export import saved_model
from trainer.training import certainty, resume, summary, train_loop


@tf.autograph.experimental.do_not_convert  # nothing here needs AutoGraph, which takes seconds
def run_fn(fn_args: FnArgs) -> None:
    """TFX Trainer's entry point; resumes a call with the same arguments that was killed (`trainer.training.resume`).

    Args:
        fn_args: `train_files` and `eval_files` are features (FeatureExtractor's) or raw examples; `base_model` is the
            backbone directory; `custom_config["trainer"]` is a TrainerConfig as JSON, whose steps `train_steps`
            replaces; `hyperparameters` are the Tuner's best, or None.

    Raises:
        InputError: the rules of `fine_tune` do not fit the network, the eval split is empty, or training diverged.
        ValueError: the features were taken at another cut than the rules imply.
    """
    started = time.monotonic()
    settings = converter.from_json(fn_args.custom_config["trainer"], TrainerConfig)
    training = dataclasses.replace(settings.training, steps=fn_args.train_steps)
    settings = dataclasses.replace(settings, training=training)
    if fn_args.hyperparameters:
        settings = search.apply(fn_args.hyperparameters["values"], settings)
    for run in summary.layer_ranges(settings):
        logging.getLogger(__name__).info("%s to %s: multiplier %g (%s)", run.first, run.last, run.multiplier, run.rule)
    resumed_at = resume.resume(fn_args)
    trained = train_loop.train(settings, fn_args)
    if not trained.estimator.config.is_chief:
        return
    progress.report(trained.steps, training.steps, "steps", "exporting the complete network")
    best = trained.evaluations.best_checkpoint
    known = certainty.measure(trained, best)
    saved_model.export_model(
        trained.estimator,
        best,
        fn_args.base_model,
        fn_args.transform_graph_path,
        fn_args.serving_model_dir,
        settings,
        known.temperature,
        known.variables,
    )
    done = summary.write(trained, known, fn_args, resumed_at, time.monotonic() - started)
    loss = math.nan if done.best.loss is None else done.best.loss
    note = f"best at step {done.best.step}: eval loss {loss:.3f}, accuracy {done.best.accuracy:.3f}"
    progress.report(done.steps, done.max_steps, "steps", note)
