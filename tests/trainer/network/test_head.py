import numpy as np
import tensorflow as tf

from core.settings.training import HeadConfig
from trainer.network import head


def test_moments_of_batches_are_those_of_all() -> None:
    values = np.random.default_rng(0).normal(1e3, 1e-2, (101, 7)).astype(np.float32)
    found = head.moments(np.split(values, [10, 11, 60]))
    np.testing.assert_allclose(found.mean, values.astype(np.float64).mean(0), rtol=1e-7)
    np.testing.assert_allclose(found.variance, values.astype(np.float64).var(0), rtol=1e-5)


def test_tiny_features_reach_the_logits_standardised() -> None:
    features = np.random.default_rng(0).normal(2e-4, 1e-5, (64, 5)).astype(np.float32)
    features[:, 4] = 3e-4  # one that never varies
    config = HeadConfig(hidden_units=(), dropout=0.0)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        logits, trained = head.build(tf.constant(features), config, 3, None, head.moments([features]))
        session.run(tf.compat.v1.global_variables_initializer())
        values, (kernel, bias) = session.run([logits, trained])
    standardised = (features - features.mean(0, np.float64)) / features.std(0, dtype=np.float64).clip(1e-9)
    standardised[:, 4] = 0
    np.testing.assert_allclose(values, standardised @ kernel + bias, atol=5e-3)


def test_dropout_follows_its_seed_and_is_off_without() -> None:
    """So that a training that is restarted at a step drops what it would have dropped."""
    features = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        seed = tf.compat.v1.placeholder(tf.int64, [2])
        logits, trained = head.build(tf.constant(features), HeadConfig((6, 4), 0.5), 3, seed, None)
        session.run(tf.compat.v1.global_variables_initializer())
        first, again, other = (session.run(logits, {seed: value}) for value in ([1, 7], [1, 7], [1, 8]))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
        assert [op for op in session.graph.get_operations() if "dropout" in op.name]
    assert [v.op.name for v in trained] == [
        f"head/{layer}/{weight}" for layer in ("hidden_0", "hidden_1", "logits") for weight in ("kernel", "bias")
    ]
    with tf.Graph().as_default() as graph:
        head.build(tf.constant(features), HeadConfig((6, 4), 0.5), 3, None, None)
        assert not [op for op in graph.get_operations() if "dropout" in op.name]


def test_the_penalty_is_on_kernels_alone() -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        _, trained = head.build(tf.zeros([2, 5]), HeadConfig((4,)), 3, None, None)
        penalty = head.squared_kernels(trained)
        session.run(tf.compat.v1.global_variables_initializer())
        session.run([v.assign_add(tf.ones_like(v)) for v in trained])
        found, values = session.run([penalty, trained])
    kernels = [v for v in values if v.ndim == 2]
    assert len(kernels) == 2
    np.testing.assert_allclose(found, sum(float((k.astype(np.float64) ** 2).sum()) for k in kernels), rtol=1e-5)
