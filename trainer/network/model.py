"""The model_fn: from bottleneck features at the cut, or from images, to classes.

Fed features at the cut, as in most trainings, the graph has only the layers after it (none for pooled features, so a
step takes milliseconds); fed images, as in the exported model, it has the complete network. Variable names are the
same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from core import rules, signatures
from core.artifacts import backbone as artifact
from core.artifacts.features import features_name
from core.settings.training import TrainerConfig, TrainingConfig
from trainer import preprocessing
from trainer.network import abstention, backbone, head, novelty
from trainer.training import checkpoints, optimizers
from trainer.training.inputs import FEATURES

LOSS = "average_loss"
"""The evaluation loss over all examples (Estimator's own averages over batches). In training's event files, it is the
batch's loss without penalties, for comparison; `loss` is what is minimized."""

ACCURACY = "accuracy"

_PRETRAINED = "pretrained"  # scope of the values that L2-SP measures from; not exported

LOSS_TENSOR = "training_loss:0"  # the training graph's loss, for hooks


@dataclasses.dataclass(frozen=True)
class Model:
    """What determines the network.

    Attributes:
        classes: names, in the order of the labels.
        cut: where features enter the network; None if it is always fed images.
        moments: of the pooled features before training; None if a checkpoint provides the standardization.
        warm_start: prefix of a checkpoint with initial values; None if all variables begin pre-trained or random.
        class_weights: a factor of the loss for each class; None if all are 1.
    """

    config: TrainerConfig
    classes: tuple[str, ...]
    cut: str | None
    backbone_directory: str
    moments: head.Moments | None = None
    warm_start: str | None = None
    class_weights: tuple[float, ...] | None = None

    @property
    def starts_trained(self) -> bool:
        """Whether training begins with an earlier model's head and the base that the head was trained on."""
        return self.warm_start is not None and self.moments is None


def make_model_fn(model: Model) -> Callable[..., tf.estimator.EstimatorSpec]:
    """The model_fn of `tf.estimator.Estimator`, for training and, folded, for the export."""

    def model_fn(
        features: dict[str, tf.Tensor],
        labels: tf.Tensor | None,
        mode: str,
        config: tf.estimator.RunConfig | None = None,
    ) -> tf.estimator.EstimatorSpec:
        training = mode == tf.estimator.ModeKeys.TRAIN
        settings, fine_tune, of_training = model.config.head, model.config.fine_tune, model.config.training
        head_only = training and is_head_phase(of_training, config.model_dir if config else None)
        predicts = mode == tf.estimator.ModeKeys.PREDICT
        pooled, network = base(model, features, training and not head_only, folded=predicts)
        seed = _step_seed(of_training.seed) if training else None
        logits, of_head = head.build(pooled, settings, len(model.classes), seed, model.moments)
        if predicts:
            at_cut = pooled if model.cut == backbone.POOLED else network.blocks.get(model.cut or "")
            return _prediction(model, logits, pooled, features, at_cut, backbone.localizing_map(network.blocks))
        _initialize(model, network)
        losses = _losses(logits, labels, model.class_weights, settings.label_smoothing if training else 0.0)
        loss = tf.reduce_mean(losses)
        if not training:
            metrics = {
                LOSS: tf.compat.v1.metrics.mean(losses),
                ACCURACY: tf.compat.v1.metrics.accuracy(labels, tf.argmax(logits, axis=-1)),
            }
            return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
        multipliers = rules.trained_layers(fine_tune, model.config.backbone.output)
        of_base = [(network.variables[layer][0], multiplier) for layer, multiplier in multipliers.items()]
        tf.compat.v1.summary.scalar(LOSS, loss)
        if settings.l2:
            loss += settings.l2 * head.squared_kernels(of_head)
        if fine_tune.l2_sp and of_base:
            loss += fine_tune.l2_sp * _squared_distance_to_backbone(model, [variable for variable, _ in of_base])
        loss = tf.identity(loss, LOSS_TENSOR.split(":")[0])
        train_op = optimizers.step(of_training, loss, of_head, of_base, network.updates, head_only)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def base(
    model: Model, features: dict[str, tf.Tensor], training: bool, folded: bool = False
) -> tuple[tf.Tensor, backbone.Network]:
    """Builds the base from where `features` enter it.

    Args:
        features: `image` float32 [b, S, S, 3], or else `features` at the cut, float32 [b, c] or [b, h, w, c].
        training: whether trainable BatchNorm uses the batch's statistics.
        folded: see `backbone.build`.

    Returns:
        The pooled features, float32 [b, c], and the layers built: none where the features are pooled already.
    """
    output = model.config.backbone.output
    if preprocessing.IMAGE in features:
        inputs, start = features[preprocessing.IMAGE], None
    elif model.cut == backbone.POOLED:
        return features[FEATURES], backbone.Network({}, {}, [])
    else:
        inputs, start = features[FEATURES], model.cut
    trained = rules.trained_layers(model.config.fine_tune, output)
    network = backbone.build(inputs, start, output, trained, training, folded)
    return backbone.pooled(network.blocks[output]), network


def is_head_phase(training: TrainingConfig, model_dir: str | None) -> bool:
    """Whether the next step of the training in `model_dir` trains only the head."""
    if not training.head_steps:
        return False
    return checkpoints.step(tf.train.latest_checkpoint(model_dir) if model_dir else None) < training.head_steps


def is_exported(name: str) -> bool:
    """Whether a variable of a training checkpoint is in the exported network: any but the optimizer's."""
    scope, *rest = name.split("/")
    return name == tf.compat.v1.GraphKeys.GLOBAL_STEP or (scope in (backbone.SCOPE, head.SCOPE) and len(rest) == 2)


def _losses(logits: tf.Tensor, labels: tf.Tensor, class_weights: Sequence[float] | None, smoothing: float) -> tf.Tensor:
    """The cross-entropy of each example, float32 [b], weighted by its class."""
    classes = logits.shape[-1]
    target = tf.one_hot(labels, classes) * (1.0 - smoothing) + smoothing / classes
    losses = tf.nn.softmax_cross_entropy_with_logits(target, logits)
    return losses if class_weights is None else losses * tf.gather(tf.constant(class_weights, tf.float32), labels)


def _step_seed(seed: int) -> tf.Tensor:
    """A seed, int [2], for the randomness of a step, so that a resumed training draws the same numbers."""
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    step = tf.compat.v1.train.get_or_create_global_step()
    return tf.random.experimental.stateless_fold_in(tf.stack([tf.constant(seed, tf.int64), step]), replica)


def _squared_distance_to_backbone(model: Model, trained: Sequence[tf.Variable]) -> tf.Tensor:
    """The sum of the squared differences of the base's trainable variables from their pre-trained values."""
    starts = {}  # variables, although they never change: constants would be written into every event file
    for variable in trained:
        name = checkpoints.name_of(variable)
        pretrained = name.replace(backbone.SCOPE, _PRETRAINED, 1)
        starts[name] = tf.compat.v1.get_variable(pretrained, variable.shape, trainable=False)
    tf.compat.v1.train.init_from_checkpoint(artifact.checkpoint(model.backbone_directory), starts)
    return tf.add_n([tf.reduce_sum(tf.square(v - start)) for v, start in zip(trained, starts.values(), strict=True)])


def _initialize(model: Model, network: backbone.Network) -> None:
    """Sets pre-trained weights, or an earlier model's, as initial values; the training's checkpoint overrides them."""
    # Loading them into a session of our own would be useless: the Estimator makes another one and initializes it. Its
    # `warm_start_from` would expect the optimizer's variables in the earlier model too.
    of_base = {checkpoints.name_of(v): v for layer in network.variables.values() for v in layer}
    if of_base:
        tf.compat.v1.train.init_from_checkpoint(artifact.checkpoint(model.backbone_directory), of_base)
    if model.warm_start:
        known = {name for name, _ in tf.train.list_variables(model.warm_start)}
        every = {checkpoints.name_of(v): v for v in tf.compat.v1.global_variables()}
        found = {name: variable for name, variable in every.items() if name in known}
        tf.compat.v1.train.init_from_checkpoint(model.warm_start, found)


def _prediction(
    model: Model,
    logits: tf.Tensor,
    pooled: tf.Tensor,
    features: dict[str, tf.Tensor],
    at_cut: tf.Tensor | None,
    localizing: tf.Tensor,
) -> tf.estimator.EstimatorSpec:
    """The exported model's signatures; `transform_features` gives TFMA the label without decoding an image.

    `at_cut` and the pixels are outputs of the signatures `serving_features` and `pixels` here; the export turns them
    into inputs.
    """
    errors = features[signatures.ERROR]
    good = tf.equal(errors, "")
    scores = tf.nn.softmax(logits)
    probabilities = tf.where(good[:, None], scores, 0.0)
    names = tf.constant(model.classes)
    classes = tf.tile(names[None], [tf.shape(logits)[0], 1])
    novel = novelty.rank(novelty.distance(pooled, len(model.classes)))
    reasons = abstention.reasons(tf.reduce_max(scores, axis=-1), novel)
    outputs = {
        "probabilities": probabilities,
        "classes": classes,
        "label": tf.where(good & tf.equal(reasons, ""), tf.gather(names, tf.argmax(logits, axis=-1)), ""),
        "probability": tf.reduce_max(probabilities, axis=-1),
        signatures.NOVELTY: tf.where(good, novel, 0.0),
        signatures.REASON: tf.where(good, reasons, ""),
        signatures.ERROR: errors,
    }
    export = tf.estimator.export
    exports = {
        signatures.EXAMPLES: export.PredictOutput(outputs),
        signatures.CLASSIFY: export.ClassificationOutput(scores=probabilities, classes=classes),
        signatures.PIXELS: export.PredictOutput(
            {signatures.PIXELS: features[preprocessing.IMAGE], "probabilities": scores, "classes": classes}
        ),
        signatures.LABELS: export.PredictOutput({preprocessing.LABEL: features[preprocessing.LABEL]}),
        signatures.EMBED: export.PredictOutput(
            {"embedding": tf.where(good[:, None], pooled, 0.0), signatures.ERROR: errors}
        ),
        signatures.MAPS: export.PredictOutput(
            {
                "pixels": features[preprocessing.IMAGE],
                "map": localizing,
                "logits": logits,
                signatures.ERROR: errors,
            }
        ),
    }
    if model.cut is not None and at_cut is not None:
        name = features_name(model.cut, model.config.backbone.output)
        exports[signatures.FEATURES] = export.PredictOutput(
            {
                name: at_cut,
                "probabilities": scores,
                "classes": classes,
                signatures.NOVELTY: novel,
                signatures.REASON: reasons,
            }
        )
    return tf.estimator.EstimatorSpec(tf.estimator.ModeKeys.PREDICT, predictions=outputs, export_outputs=exports)
