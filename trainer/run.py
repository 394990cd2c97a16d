"""The Trainer's run_fn: train, evaluate, keep the best, export the whole network, and write down what was done."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from trainer import (
    backbone,
    config,
    export,
    head,
    inputs,
    preprocessing,
    progress,
    rules,
    search_space,
    summary,
    warm_start,
)
from trainer.config import TrainerConfig
from trainer.errors import InputError
from trainer.evaluations import Evaluations
from trainer.hooks import ProgressHook, StopHook
from trainer.model import Model, base, make_model_fn

if TYPE_CHECKING:  # imports all of TFX's components, 16 s
    from tfx.components.trainer.fn_args_utils import FnArgs

_MOMENTS_OF_FEATURES = 4096  # images the standardisation is computed from, where they cost no forward pass
_MOMENTS_OF_IMAGES = 512  # the standard error of a mean is then 4 % of the standard deviation


def run_fn(fn_args: FnArgs) -> None:
    """TFX Trainer's entry point; a second call on the same `model_run_dir` continues from its last checkpoint.

    Args:
        fn_args: `train_files` and `eval_files` are features (FeatureExtractor's) or raw examples; `base_model` is the
            backbone directory; `custom_config["trainer"]` is a TrainerConfig as a dict, and `train_steps`, which a run
            may be started with, takes the place of its steps; `hyperparameters` are the Tuner's best, or None.

    Raises:
        InputError: the rules of `fine_tune` do not fit the network, the eval split is of no use, or training diverged.
        ValueError: the features were taken at another cut than the rules imply.
    """
    started = time.monotonic()
    settings = config.from_dict(fn_args.custom_config["trainer"])
    training = dataclasses.replace(settings.training, steps=fn_args.train_steps)
    settings = dataclasses.replace(settings, training=training)
    if fn_args.hyperparameters:
        settings = search_space.apply(fn_args.hyperparameters["values"], settings)
    fitted = fit(settings, fn_args)
    steps = _step(fitted.estimator.latest_checkpoint())
    progress.report(steps, fitted.model.config.training.steps, "steps", "exporting the whole network")
    export.export_model(
        fitted.estimator,
        fitted.evaluations.best_checkpoint,
        fn_args.base_model,
        fn_args.transform_graph_path,
        fn_args.serving_model_dir,
    )
    content = summary.training_summary(
        fitted.model,
        backbone.read_record(fn_args.base_model),
        _head_parameters(fitted.evaluations.best_checkpoint),
        fitted.evaluations,
        steps,
        time.monotonic() - started,
        warm_start.read_record(fn_args.model_run_dir),
    )
    with tf.io.gfile.GFile(f"{fn_args.model_run_dir.rstrip('/')}/{summary.FILE_NAME}", "w") as file:
        json.dump(content, file, indent=1)
    best = fitted.evaluations.best
    note = f"best at step {best['step']}: eval loss {best['loss']:.3f}, accuracy {best['accuracy']:.3f}"
    progress.report(steps, fitted.model.config.training.steps, "steps", note)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained network, not exported: what was trained, by what, and how well."""

    model: Model
    estimator: tf.estimator.Estimator
    evaluations: Evaluations


def fit(settings: TrainerConfig, fn_args: FnArgs) -> Fitted:
    """Trains and evaluates in `model_run_dir`; arguments and errors as `run_fn`, but for the settings' source."""
    model, train, evaluate = _prepare(settings, fn_args)
    estimator = tf.estimator.Estimator(make_model_fn(model), config=_run_config(settings, fn_args.model_run_dir))
    evaluations = Evaluations(fn_args.model_run_dir, settings.training.early_stopping)
    _train(estimator, evaluations, settings, train, evaluate)
    return Fitted(model, estimator, evaluations)


def _prepare(settings: TrainerConfig, fn_args: FnArgs) -> tuple[Model, inputs.Source, inputs.Source]:
    """The network for these settings and this data, and the two splits; measures what the network needs to know."""
    train, evaluate = (
        inputs.find(files, fn_args.transform_graph_path, settings.backbone.output)
        for files in (fn_args.train_files, fn_args.eval_files)
    )
    cut = rules.features_cut(settings)
    if train.features is not None and train.features.cut != cut:
        raise ValueError(f"the features were taken at {train.features.cut}, but the rules of fine_tune imply {cut}")
    for row in summary.rule_table(settings):
        logging.getLogger(__name__).info("%(first)s to %(last)s: multiplier %(multiplier)g (%(rule)s)", row)
    model = Model(
        config=settings,
        classes=tuple(preprocessing.class_names(fn_args.transform_graph_path)),
        cut=cut,
        backbone_directory=fn_args.base_model,
    )
    if sum(inputs.count_labels(evaluate, len(model.classes))) == 0:
        raise InputError("The eval split has no image of any class of the train split. Give it more of data.splits.")
    if settings.head.class_weights == "balanced":
        counts = np.maximum(inputs.count_labels(train, len(model.classes)), 1)
        balanced = counts.sum() / (len(counts) * counts)
        model = dataclasses.replace(model, class_weights=tuple(balanced.tolist()))
    if tf.train.latest_checkpoint(fn_args.model_run_dir) is None:
        warm = warm_start.prepare(fn_args.base_model, settings, model.classes, fn_args.model_run_dir)
        model = dataclasses.replace(model, warm_start=warm.checkpoint if warm else None)
        if warm is None or warm.head in (None, "rebuilt"):  # a head that is kept keeps its standardisation
            model = dataclasses.replace(model, moments=_moments(model, train))
    return model, train, evaluate


def _train(
    estimator: tf.estimator.Estimator,
    evaluations: Evaluations,
    settings: TrainerConfig,
    train: inputs.Source,
    evaluate: inputs.Source,
) -> None:
    """Trains until the last step or until it no longer improves; whatever was trained has been evaluated then."""
    training = settings.training
    done = _step(estimator.latest_checkpoint())
    evaluation_input = inputs.evaluation_input(evaluate, training.batch_size)
    if not evaluations.should_stop():
        train_spec = tf.estimator.TrainSpec(
            inputs.training_input(train, training.batch_size, training.seed + done, training.augmentation),
            max_steps=training.steps,
            hooks=[StopHook(evaluations), ProgressHook(training.steps, evaluations)],
        )
        evaluation_spec = tf.estimator.EvalSpec(
            evaluation_input, steps=None, exporters=[evaluations], start_delay_secs=0, throttle_secs=0
        )
        try:
            tf.estimator.train_and_evaluate(estimator, train_spec, evaluation_spec)
        except tf.estimator.NanLossDuringTrainingError as error:
            raise InputError(
                f"Training diverged: the loss became NaN. Lower training.learning_rate {training.learning_rate.values} "
                "or the multipliers of fine_tune.rules."
            ) from error
    checkpoint = estimator.latest_checkpoint()
    if not evaluations.covers(_step(checkpoint)):  # an earlier process ended between its last step and the evaluation
        evaluations.export(estimator, "", checkpoint, estimator.evaluate(evaluation_input), True)


def _moments(model: Model, train: inputs.Source) -> head.Moments:
    """Of the pooled features of some training images, through the network as it is before training."""
    training = model.config.training
    ready = train.features is not None and train.features.cut == backbone.POOLED
    images = _MOMENTS_OF_FEATURES if ready else _MOMENTS_OF_IMAGES
    with tf.Graph().as_default():
        dataset = inputs.sample_input(train, images, training.batch_size, training.seed)()
        iterator = tf.compat.v1.data.make_initializable_iterator(dataset)
        features, _ = iterator.get_next()
        pooled, _ = base(model, features, training=False)
        with tf.compat.v1.Session(config=_session_config()) as session:
            session.run([tf.compat.v1.tables_initializer(), iterator.initializer])
            backbone.restore(session, model.backbone_directory, instead=model.warm_start)
            return head.moments(_all_batches(session, pooled))


def _all_batches(session: tf.compat.v1.Session, tensor: tf.Tensor) -> Iterator[np.ndarray]:
    while True:
        try:
            yield session.run(tensor)
        except tf.errors.OutOfRangeError:
            return


def _run_config(settings: TrainerConfig, model_dir: str) -> tf.estimator.RunConfig:
    every = settings.training.eval_every
    return tf.estimator.RunConfig(
        model_dir=model_dir,
        tf_random_seed=settings.training.seed,
        save_checkpoints_steps=every,
        keep_checkpoint_max=1,
        save_summary_steps=max(1, every // 10),
        log_step_count_steps=every,
        session_config=_session_config(),
    )


def _session_config() -> tf.compat.v1.ConfigProto:
    cores = os.cpu_count() or 1
    return tf.compat.v1.ConfigProto(intra_op_parallelism_threads=cores, inter_op_parallelism_threads=min(cores, 4))


def _step(checkpoint: str | None) -> int:
    if checkpoint is None:
        return 0
    return int(tf.train.load_variable(checkpoint, tf.compat.v1.GraphKeys.GLOBAL_STEP))


def _head_parameters(checkpoint: str) -> int:
    names = tf.train.list_variables(checkpoint)
    return sum(int(np.prod(s)) for n, s in names if n.startswith(f"{head.SCOPE}/") and n.endswith(("kernel", "bias")))
