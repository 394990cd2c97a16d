"""Trains and evaluates the Estimator until the last step or until it no longer improves, and keeps the best weights."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from core import rules
from core.errors import InputError
from core.settings.training import TrainerConfig
from trainer import preprocessing
from trainer.arguments import FnArgs
from trainer.network import backbone, head
from trainer.network.model import Model, base, is_head_phase, make_model_fn
from trainer.training import checkpoints, distribution, inputs, warm_start
from trainer.training.evaluations import Evaluations
from trainer.training.hooks import StepHook, StopEvaluator

_SEEDS_OF_A_WORKER = 1_000_003  # every worker of a cluster has its own order; see inputs.training_input
_EVALUATOR_SECONDS = 600  # how long the chief waits for the evaluator to finish
_MOMENTS_OF_FEATURES = 4096  # images for computing the standardization if they need no forward pass
_MOMENTS_OF_IMAGES = 512  # the standard error of a mean is then 4 % of the standard deviation


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained network before export; `train` and `evaluated` are splits, `counts` the training images per class."""

    model: Model
    estimator: tf.estimator.Estimator
    evaluations: Evaluations
    train: inputs.Source
    evaluated: inputs.Source
    counts: list[int]

    @property
    def steps(self) -> int:
        """The total number of steps, including those before a restart."""
        return checkpoints.step(self.estimator.latest_checkpoint())


def train(settings: TrainerConfig, fn_args: FnArgs) -> Trained:
    """Trains and evaluates in `model_run_dir`; like `run_fn`, but with the settings given."""
    training = settings.training
    run_config = distribution.run_config(training, fn_args.model_run_dir)
    model, source, evaluated, counts = prepare(settings, fn_args, run_config.is_chief)
    estimator = tf.estimator.Estimator(make_model_fn(model), config=run_config)
    evaluations = Evaluations(fn_args.model_run_dir, training.early_stopping, training.head_steps)
    evaluation_input = inputs.evaluation_input(evaluated, training.batch_size)
    if model.starts_trained and not evaluations.history:
        # The earlier model, as step 0, is a candidate for the best, since training may only make it worse. (A new head
        # predicts at random, and is not worth evaluating.) The cluster's other processes start after this.
        evaluations.evaluate(estimator, evaluation_input, str(model.warm_start))
    with distribution.publish_task(run_config, fn_args):
        _loop(estimator, evaluations, model, source, evaluation_input)
    return Trained(model, estimator, evaluations, source, evaluated, counts)


def prepare(
    settings: TrainerConfig, fn_args: FnArgs, is_chief: bool = True
) -> tuple[Model, inputs.Source, inputs.Source, list[int]]:
    """Prepares the network, with initial values only if `is_chief`. Raises what `run_fn` raises.

    Returns:
        The network, the training and the evaluation split, and the number of training images of each class.
    """
    train, evaluate = (
        inputs.find(files, fn_args.transform_graph_path, settings.backbone.output)
        for files in (fn_args.train_files, fn_args.eval_files)
    )
    cut = rules.features_cut(settings)
    if train.features is not None and train.features.cut != cut:
        raise ValueError(f"the features were taken at {train.features.cut}, but the rules of fine_tune imply {cut}")
    classes = tuple(preprocessing.class_names(fn_args.transform_graph_path))
    evaluated = sum(inputs.count_labels(evaluate, len(classes)))
    if evaluated == 0:
        raise InputError("The eval split has no image of any class of the train split. Give it more of data.splits.")
    counts = inputs.count_labels(train, len(classes))
    class_weights = None
    if settings.head.class_weights == "balanced":
        some = np.maximum(counts, 1)
        class_weights = tuple((some.sum() / (len(some) * some)).tolist())
    model = Model(settings, classes, cut, fn_args.base_model, class_weights=class_weights)
    if is_chief and tf.train.latest_checkpoint(fn_args.model_run_dir) is None:
        warm = warm_start.prepare(fn_args.base_model, settings, classes, fn_args.model_run_dir)
        model = dataclasses.replace(model, warm_start=warm.checkpoint if warm else None)
        if warm is None or warm.head in (None, "rebuilt"):  # a head that is kept keeps its standardization
            model = dataclasses.replace(model, moments=_moments(model, train))
    return model, train, evaluate, counts


def _loop(
    estimator: tf.estimator.Estimator,
    evaluations: Evaluations,
    model: Model,
    source: inputs.Source,
    evaluation_input: Callable[[], tf.data.Dataset],
) -> None:
    """Trains until the last step or until it no longer improves; in the end, the last step has been evaluated."""
    training = model.config.training
    run_config = estimator.config
    cluster = distribution.is_in_cluster(run_config)
    batches_a_step = run_config.train_distribute.num_replicas_in_sync if run_config.train_distribute else 1
    evaluation_spec = tf.estimator.EvalSpec(
        evaluation_input,
        steps=None,
        exporters=[evaluations],
        hooks=[StopEvaluator(evaluations)] if run_config.task_type == "evaluator" else [],
        start_delay_secs=0,
        throttle_secs=1 if cluster else 0,
    )
    # Each phase has its own graph, with the same variables, including the optimizers', so the second phase resumes from
    # the checkpoint of the first.
    phases = [min(training.head_steps, training.steps), training.steps] if training.head_steps else [training.steps]
    for end in phases:
        done = checkpoints.step(estimator.latest_checkpoint())
        if not cluster:
            evaluations.evaluate_if_missed(estimator, evaluation_input)
        if evaluations.should_stop() or (done >= end and not cluster):
            continue
        train_input = inputs.training_input(
            source,
            training.batch_size,
            training.seed + _SEEDS_OF_A_WORKER * (run_config.global_id_in_cluster or 0),
            training.augmentation,
            first_batch=done * batches_a_step,
        )
        hook = StepHook(training.steps, evaluations, reload=cluster)
        train_spec = tf.estimator.TrainSpec(train_input, max_steps=end, hooks=[hook])
        try:
            tf.estimator.train_and_evaluate(estimator, train_spec, evaluation_spec)
        except tf.estimator.NanLossDuringTrainingError as error:
            raise InputError(
                f"Training diverged: the loss became NaN. Lower training.learning_rate {training.learning_rate.values} "
                "or the multipliers of fine_tune.rules."
            ) from error
        except StopEvaluator.Stopped:
            return
    if run_config.is_chief:
        if cluster:
            _await_evaluator(evaluations, checkpoints.step(estimator.latest_checkpoint()))
        evaluations.evaluate_if_missed(estimator, evaluation_input)


def _await_evaluator(evaluations: Evaluations, step: int) -> None:
    """Waits until the cluster's evaluator has evaluated the last step, or for too long."""
    deadline = time.monotonic() + _EVALUATOR_SECONDS
    evaluations.reload()
    while not evaluations.covers(step) and not evaluations.should_stop() and time.monotonic() < deadline:
        time.sleep(1)
        evaluations.reload()


def _moments(model: Model, train: inputs.Source) -> head.Moments:
    """The moments of pooled features of some training images, from the network as it is at the first step."""
    # Trainable BatchNorm uses each batch's statistics, as in training: with the stored ones, a random network's
    # features are far smaller, and standardizing by their moments would give huge losses.
    training = model.config.training
    ready = train.features is not None and train.features.cut == backbone.POOLED
    images = _MOMENTS_OF_FEATURES if ready else _MOMENTS_OF_IMAGES
    with tf.Graph().as_default():
        dataset = inputs.sample(train, images, training.batch_size, training.seed)
        iterator = tf.compat.v1.data.make_initializable_iterator(dataset)
        features, _ = iterator.get_next()
        pooled, _ = base(model, features, training=not is_head_phase(training, None))
        with tf.compat.v1.Session(config=distribution.session_config()) as session:
            session.run([tf.compat.v1.tables_initializer(), iterator.initializer])
            backbone.restore(session, model.backbone_directory, instead=model.warm_start)
            return head.moments(inputs.run_to_end(session, pooled))
