"""Trains the Estimator and evaluates it, to the last step or until it no longer improves; keeps the best."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from core import rules
from core.errors import InputError
from core.settings.training import TrainerConfig
from trainer import preprocessing
from trainer.network import backbone, head
from trainer.network.model import Model, base, is_head_phase, make_model_fn
from trainer.training import checkpoints, distribution, inputs, summary, warm_start
from trainer.training.evaluations import Evaluations
from trainer.training.hooks import ProgressHook, StopEvaluator, StopHook

if TYPE_CHECKING:  # imports all of TFX's components, 16 s
    from tfx.components.trainer.fn_args_utils import FnArgs

_SEEDS_OF_A_WORKER = 1_000_003  # every worker of a cluster shuffles in its own way; see inputs.training_input
_EVALUATOR_SECONDS = 600  # that the chief waits for the evaluator to finish
_MOMENTS_OF_FEATURES = 4096  # images the standardisation is computed from, where they cost no forward pass
_MOMENTS_OF_IMAGES = 512  # the standard error of a mean is then 4 % of the standard deviation

EvaluationInput = Callable[[], tf.data.Dataset]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained network, not exported: what was trained, by what, and how well, and what is to be known of the data."""

    model: Model
    estimator: tf.estimator.Estimator
    evaluations: Evaluations
    notes: tuple[str, ...] = ()


def fit(settings: TrainerConfig, fn_args: FnArgs) -> Fitted:
    """Trains and evaluates in `model_run_dir`; arguments and errors as `run_fn`, but for the settings' source."""
    run_config = distribution.run_config(settings.training, fn_args.model_run_dir)
    model, train, evaluate, notes = prepare(settings, fn_args, run_config.is_chief)
    estimator = tf.estimator.Estimator(make_model_fn(model), config=run_config)
    training = settings.training
    evaluations = Evaluations(fn_args.model_run_dir, training.early_stopping, training.head_steps)
    evaluation_input = inputs.evaluation_input(evaluate, training.batch_size)
    if model.starts_trained and not evaluations.history:
        _evaluate_start(estimator, evaluations, model, evaluation_input)
    with distribution.told_to_cluster(run_config, fn_args):
        _train(estimator, evaluations, model, train, evaluation_input)
    return Fitted(model, estimator, evaluations, notes)


def prepare(
    settings: TrainerConfig, fn_args: FnArgs, is_chief: bool = True
) -> tuple[Model, inputs.Source, inputs.Source, tuple[str, ...]]:
    """The network for these settings and this data, the two splits, and notes on them.

    Measures what the network needs to know; what only initialises variables, where `is_chief`. Errors as `run_fn`.
    """
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
    counts = inputs.count_labels(train, len(model.classes))
    if settings.head.class_weights == "balanced":
        some = np.maximum(counts, 1)
        balanced = some.sum() / (len(some) * some)
        model = dataclasses.replace(model, class_weights=tuple(balanced.tolist()))
    if is_chief and tf.train.latest_checkpoint(fn_args.model_run_dir) is None:
        warm = warm_start.prepare(fn_args.base_model, settings, model.classes, fn_args.model_run_dir)
        model = dataclasses.replace(model, warm_start=warm.checkpoint if warm else None)
        if warm is None or warm.head in (None, "rebuilt"):  # a head that is kept keeps its standardisation
            model = dataclasses.replace(model, moments=_moments(model, train))
    notes = (*summary.notes_on_rules(settings), *summary.notes_on_classes(model.classes, counts))
    return model, train, evaluate, notes


def _train(
    estimator: tf.estimator.Estimator,
    evaluations: Evaluations,
    model: Model,
    train: inputs.Source,
    evaluation_input: EvaluationInput,
) -> None:
    """Trains until the last step or until it no longer improves; whatever was trained has been evaluated then."""
    training = model.config.training
    run_config = estimator.config
    cluster = distribution.is_in_cluster(run_config)
    evaluation_spec = tf.estimator.EvalSpec(
        evaluation_input,
        steps=None,
        exporters=[evaluations],
        hooks=[StopEvaluator(evaluations)] if run_config.task_type == "evaluator" else [],
        start_delay_secs=0,
        throttle_secs=1 if cluster else 0,
    )
    for end in _phase_ends(model):
        done = checkpoints.step(estimator.latest_checkpoint())
        if not cluster:
            _evaluate_if_missed(estimator, evaluations, evaluation_input)
        if evaluations.should_stop() or (done >= end and not cluster):
            continue
        train_input = inputs.training_input(
            train,
            training.batch_size,
            training.seed + _SEEDS_OF_A_WORKER * (run_config.global_id_in_cluster or 0),
            training.augmentation,
            first_batch=done * distribution.batches_a_step(run_config),
        )
        hooks = [StopHook(evaluations, reload=cluster), ProgressHook(training.steps, evaluations)]
        train_spec = tf.estimator.TrainSpec(train_input, max_steps=end, hooks=hooks)
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
        _evaluate_if_missed(estimator, evaluations, evaluation_input)


def _phase_ends(model: Model) -> list[int]:
    """The steps up to which the Estimator trains one graph: the head's alone, then the whole.

    Variables are the same in both, those of the optimizers too: so the second goes on from the checkpoint of the first.
    """
    training = model.config.training
    return [min(training.head_steps, training.steps), training.steps] if training.head_steps else [training.steps]


def _evaluate_start(
    estimator: tf.estimator.Estimator, evaluations: Evaluations, model: Model, evaluation_input: EvaluationInput
) -> None:
    """Makes the earlier model, as step 0, a candidate for the best: training may only make it worse.

    The Estimator has no checkpoint yet, and evaluates what its variables begin with. (A head that begins anew answers
    by chance; to measure that is not worth an evaluation.) In a cluster, this is before the others begin.
    """
    evaluations.export(estimator, "", str(model.warm_start), estimator.evaluate(evaluation_input), False)


def _evaluate_if_missed(
    estimator: tf.estimator.Estimator, evaluations: Evaluations, evaluation_input: EvaluationInput
) -> None:
    """Makes up for the evaluation of the last checkpoint where a process ended between the two."""
    checkpoint = estimator.latest_checkpoint()
    step = checkpoints.step(checkpoint)
    if step and not evaluations.covers(step):
        evaluations.export(estimator, "", checkpoint, estimator.evaluate(evaluation_input), True)


def _await_evaluator(evaluations: Evaluations, step: int) -> None:
    """Returns once the cluster's evaluator has evaluated the last step, or when it gives no sign for too long."""
    deadline = time.monotonic() + _EVALUATOR_SECONDS
    evaluations.reload()
    while not evaluations.covers(step) and not evaluations.should_stop() and time.monotonic() < deadline:
        time.sleep(1)
        evaluations.reload()


def _moments(model: Model, train: inputs.Source) -> head.Moments:
    """Of the pooled features of some training images, through the network as it is at the first step.

    That is: with the statistics of each batch where BatchNorm trains. With the stored ones a random network's features
    are far smaller; standardised by their moments, those of training would give huge losses.
    """
    training = model.config.training
    ready = train.features is not None and train.features.cut == backbone.POOLED
    images = _MOMENTS_OF_FEATURES if ready else _MOMENTS_OF_IMAGES
    with tf.Graph().as_default():
        dataset = inputs.sample_input(train, images, training.batch_size, training.seed)()
        iterator = tf.compat.v1.data.make_initializable_iterator(dataset)
        features, _ = iterator.get_next()
        pooled, _ = base(model, features, training=not is_head_phase(training, None))
        with tf.compat.v1.Session(config=distribution.session_config()) as session:
            session.run([tf.compat.v1.tables_initializer(), iterator.initializer])
            backbone.restore(session, model.backbone_directory, instead=model.warm_start)
            return head.moments(_all_batches(session, pooled))


def _all_batches(session: tf.compat.v1.Session, tensor: tf.Tensor) -> Iterator[np.ndarray]:
    while True:
        try:
            yield session.run(tensor)
        except tf.errors.OutOfRangeError:
            return
