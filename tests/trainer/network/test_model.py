"""The model_fn's graphs, checked against plain numpy and against each other."""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tensorflow as tf

from core import rules
from core.settings.training import FineTuneConfig, HeadConfig, LearningRateConfig, TrainerConfig
from tests.trainer.conftest import settings
from trainer.network import backbone, head
from trainer.network.model import Model, base, make_model_fn

LEARNS = FineTuneConfig(rules=(("(conv2d|batch_normalization)_93", 1.0), ("conv2d_85", 0.1), (".*", 0.0)))
LABELS = np.array([0, 2, 1, 0])
ONE_HOT = np.eye(3)[LABELS]
AT_MIXED9 = np.random.default_rng(2).uniform(0, 1, (4, 1, 1, 2048)).astype(np.float32)
VARIANCE = 1e-9
POOLED = np.random.default_rng(1).normal(size=(4, 2048)).astype(np.float32)


def model_of(config: TrainerConfig, directory: Path | str, cut: str | None = "pooled", **more: Any) -> Model:
    moments = head.Moments(np.zeros(2048, np.float32), np.full(2048, VARIANCE, np.float32))
    return Model(config, ("blue", "green", "red"), cut, str(directory), moments, **more)


def spec(model: Model, features: dict[str, np.ndarray], mode: str) -> tf.estimator.EstimatorSpec:
    tensors = {name: tf.constant(value) for name, value in features.items()}
    return make_model_fn(model)(tensors, tf.constant(LABELS), mode)


def numpy_losses(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return -(target * (shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))).sum(-1)


def test_first_loss_is_that_of_the_pretrained_weights(backbone_directory: Path) -> None:
    """The Estimator initialises variables by their initialisers: so these must load the weights."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        output = backbone.build(tf.constant(AT_MIXED9), "mixed9", "mixed10").blocks["mixed10"]
        backbone.restore(session, str(backbone_directory))
        pooled = session.run(output).mean((1, 2))
    # All rates are of layers without weights: nothing in the base trains, and no BatchNorm uses the batch's statistics.
    rules = (("mixed9_1", 1.0), (".*", 0.0))
    config = dataclasses.replace(settings(FineTuneConfig(rules=rules)), head=HeadConfig(hidden_units=()))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = spec(model_of(config, backbone_directory, "mixed9"), {"features": AT_MIXED9}, "train")
        session.run(tf.compat.v1.global_variables_initializer())
        variables = {v.op.name: v for v in tf.compat.v1.global_variables()}
        kernel, bias, loss = session.run([variables["head/logits/kernel"], variables["head/logits/bias"], made.loss])
    standardised = pooled / np.sqrt(VARIANCE * 1.001)
    np.testing.assert_allclose(loss, numpy_losses(standardised @ kernel + bias, ONE_HOT).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("fine_tune", "cut", "size", "stored", "error"),
    [
        (LEARNS, "mixed9", 75, np.float32, 1e-5),
        (FineTuneConfig(from_layer="mixed9"), "mixed8", 139, np.float32, 1e-4),
        # As FeatureExtractor stores maps: the statistics of 36 pixels of a random network magnify the rounding.
        (FineTuneConfig(from_layer="mixed9"), "mixed8", 139, np.float16, 0.15),
    ],
)
def test_gradients_from_features_at_the_cut_are_those_of_the_whole_network(
    fine_tune: FineTuneConfig, cut: str, size: int, stored: type, error: float, backbone_directory: Path
) -> None:
    """With the prefix frozen; within the rounding of what is stored, as relative L2 distance."""
    model = model_of(settings(fine_tune), backbone_directory, cut)
    images = np.random.default_rng(0).uniform(-1, 1, (4, size, size, 3)).astype(np.float32)

    def gradients(features: dict[str, np.ndarray], at_cut: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
            pooled, network = base(model, {n: tf.constant(v, name=n) for n, v in features.items()}, training=True)
            assert network is not None
            trained = rules.trained_layers(fine_tune, "mixed10")
            found = {n: tf.gradients(tf.reduce_sum(pooled**2), network.variables[n][0])[0] for n in trained}
            backbone.restore(session, str(backbone_directory))
            return session.run((found, graph.get_tensor_by_name(at_cut)))

    from_images, at_cut = gradients({"image": images}, f"{cut}/concat:0")
    from_features, _ = gradients({"features": at_cut.astype(stored).astype(np.float32)}, "features:0")
    for name, gradient in from_images.items():
        assert np.linalg.norm(from_features[name] - gradient) < error * np.linalg.norm(gradient), name


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_multiplier_scales_the_step_and_frozen_layers_take_none(optimizer: str, backbone_directory: Path) -> None:
    """Under Adam too, where a scaled gradient would make the same step."""

    def change(multiplier: float) -> dict[str, np.ndarray]:
        rules = (("conv2d_93", multiplier), ("conv2d_85", 1.0), (".*", 0.0))
        model = model_of(settings(FineTuneConfig(rules=rules), optimizer=optimizer), backbone_directory, "mixed9")
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            tf.compat.v1.set_random_seed(1)
            made = spec(model, {"features": AT_MIXED9}, tf.estimator.ModeKeys.TRAIN)
            session.run(tf.compat.v1.global_variables_initializer())
            variables = {v.op.name: v for v in tf.compat.v1.global_variables() if v.op.name.count("/") == 2}
            before = session.run(variables)
            session.run(made.train_op)
            assert session.run(tf.compat.v1.train.get_global_step()) == 1
            after = session.run(variables)
        return {name: after[name] - before[name] for name in before}

    full, tenth = change(1.0), change(0.1)
    assert np.abs(full["InceptionV3/conv2d_93/kernel"]).max() > 0
    np.testing.assert_allclose(
        tenth["InceptionV3/conv2d_93/kernel"], 0.1 * full["InceptionV3/conv2d_93/kernel"], atol=1e-6
    )
    np.testing.assert_array_equal(tenth["InceptionV3/conv2d_85/kernel"], full["InceptionV3/conv2d_85/kernel"])
    np.testing.assert_array_equal(tenth["head/logits/kernel"], full["head/logits/kernel"])
    moved = {name for name, delta in full.items() if delta.any()}
    assert {n for n in moved if n.startswith("InceptionV3")} == {
        "InceptionV3/conv2d_93/kernel",
        "InceptionV3/conv2d_85/kernel",
    }
    assert not any(n.startswith("head/standardization") for n in moved)


@pytest.mark.parametrize(
    ("optimizer", "momentum", "second_step"),
    [("sgd", None, 1.9), ("sgd", 0.5, 1.5), ("sgd", 0.0, 1.0), ("rmsprop", None, 1.0), ("rmsprop", 0.5, 1.5)],
)
def test_momentum_carries_the_step_before_over(
    optimizer: str, momentum: float | None, second_step: float, tmp_path: Path
) -> None:
    """At a rate so small that both gradients are the same, the second step is 1 + momentum times the first."""
    config = settings(optimizer=optimizer, momentum=momentum, learning_rate=LearningRateConfig((1e-6,)))
    config = dataclasses.replace(config, head=HeadConfig(hidden_units=()))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.set_random_seed(1)
        made = spec(model_of(config, tmp_path), {"features": POOLED * 1e-6}, tf.estimator.ModeKeys.TRAIN)
        session.run(tf.compat.v1.global_variables_initializer())
        bias = next(v for v in tf.compat.v1.global_variables() if v.op.name == "head/logits/bias")
        places = [session.run(bias)]
        for _ in range(2):
            session.run(made.train_op)
            places.append(session.run(bias))
    first, second = np.diff(places, axis=0)
    # RMSprop divides by a running mean of squares that starts at 1 and falls by a tenth of what is missing.
    tolerance = 0.15 if optimizer == "rmsprop" else 1e-3
    np.testing.assert_allclose(second / first, second_step, rtol=tolerance)


def test_l2_sp_is_the_squared_distance_from_the_pretrained_values(backbone_directory: Path) -> None:
    """Of kernels and betas that train; nothing of it, and no gradient, where the network starts."""

    def losses(l2_sp: float) -> tuple[float, float, float]:
        fine_tune = msgspec.structs.replace(LEARNS, l2_sp=l2_sp)
        config = dataclasses.replace(settings(fine_tune), head=HeadConfig(hidden_units=()))
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            tf.compat.v1.set_random_seed(1)
            made = spec(model_of(config, backbone_directory, "mixed9"), {"features": AT_MIXED9}, "train")
            session.run(tf.compat.v1.global_variables_initializer())
            variables = {v.op.name: v for v in tf.compat.v1.global_variables()}
            at_start = session.run(made.loss)
            moved = 0.0
            for name, delta in (("conv2d_93/kernel", 0.01), ("conv2d_85/kernel", -0.02), ("conv2d_92/kernel", 1.0)):
                variable = variables[f"InceptionV3/{name}"]
                session.run(variable.assign_add(tf.fill(variable.shape, delta)))
                moved += delta**2 * variable.shape.num_elements() if name != "conv2d_92/kernel" else 0.0  # frozen
            beta = variables["InceptionV3/batch_normalization_93/beta"]
            session.run(beta.assign_add(tf.fill(beta.shape, 0.1)))
            return at_start, session.run(made.loss), moved + 0.01 * 192

    plain_start, plain, _ = losses(0.0)
    start, penalised, distance = losses(0.3)
    np.testing.assert_allclose(start, plain_start, rtol=1e-6)
    np.testing.assert_allclose(penalised - plain, 0.3 * distance, rtol=1e-3)  # float32: both are large


def test_smoothing_and_class_weights_shape_the_loss(tmp_path: Path) -> None:
    config = dataclasses.replace(settings(), head=HeadConfig(hidden_units=(), label_smoothing=0.3))
    weights = (0.5, 2.0, 4.0)
    model = model_of(config, tmp_path, class_weights=weights)
    for mode, target in (("train", ONE_HOT * 0.7 + 0.1), ("eval", ONE_HOT)):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            made = spec(model, {"features": POOLED * 1e-5}, mode)
            session.run(tf.compat.v1.global_variables_initializer())
            variables = {v.op.name: v for v in tf.compat.v1.global_variables()}
            kernel, loss = session.run([variables["head/logits/kernel"], made.loss])
        losses = numpy_losses(POOLED * 1e-5 / np.sqrt(VARIANCE * 1.001) @ kernel, target)
        np.testing.assert_allclose(loss, (losses * np.array(weights)[LABELS]).mean(), rtol=1e-4)


def test_graph_for_pooled_features_has_no_network(tmp_path: Path) -> None:
    for mode in (tf.estimator.ModeKeys.TRAIN, tf.estimator.ModeKeys.EVAL):
        with tf.Graph().as_default() as graph:
            spec(model_of(settings(), tmp_path), {"features": POOLED}, mode)
            assert not [v for v in tf.compat.v1.global_variables() if v.op.name.startswith("InceptionV3")]
            assert len(graph.get_operations()) < 400
