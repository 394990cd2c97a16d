import hashlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from trainer import backbone, checkpoints, inception_v3
from trainer.config import BackboneConfig
from trainer.errors import InputError

IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 75, 75, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def keras_answer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A file of Keras's own making, with statistics that matter, and what Keras computes with it."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    keras.layers.Conv2D(1, 1).build((None, 4, 4, 1))  # so that the names in the file are not the canonical ones
    model = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(75, 75, 3))
    assert model.layers[1].name == "conv2d_1"
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            beta, mean, variance = layer.get_weights()
            layer.set_weights([beta + 0.1, mean - 0.05, variance * 0.3])
    path = tmp_path_factory.mktemp("keras") / "weights.h5"
    model.save_weights(str(path))
    return path, model.predict(IMAGES, verbose=0)


@pytest.fixture(scope="module")
def directory(keras_answer: tuple[Path, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> str:
    where = str(tmp_path_factory.mktemp("backbone") / "Format-Serving")
    backbone.import_weights(BackboneConfig(weights=str(keras_answer[0]), image_size=75), where)
    return where


def test_network_from_the_checkpoint_computes_what_keras_computes(
    keras_answer: tuple[Path, np.ndarray], directory: str
) -> None:
    """Also where the graph, and its Keras counters, had other things in them before."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        keras.layers.Conv2D(3, 3)(keras.Input((75, 75, 3)))
        with tf.name_scope("elsewhere"):
            output = backbone.build(tf.constant(IMAGES), None, "mixed10").output
        pooled = backbone.pooled(output)
        names = {v.op.name for v in tf.compat.v1.global_variables() if v.op.name.startswith("InceptionV3/")}
        backbone.restore(session, directory)
        computed, average = session.run([output, pooled])
    np.testing.assert_array_equal(computed, keras_answer[1])
    np.testing.assert_allclose(average, keras_answer[1].mean((1, 2)), rtol=1e-6)
    assert names == {f"InceptionV3/{layer.name}/{w}" for layer in inception_v3.layers() for w, _ in layer.weights}
    assert names == set(checkpoints.read(backbone.checkpoint_path(directory)))


def test_prefix_and_suffix_are_the_whole(keras_answer: tuple[Path, np.ndarray], directory: str) -> None:
    cut = "mixed8"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        prefix = backbone.frozen_prefix(tf.constant(IMAGES), cut, "mixed10")
        features = tf.compat.v1.placeholder(tf.float32, prefix.shape)
        suffix = backbone.build(features, cut, "mixed10").output
        backbone.restore(session, directory)
        np.testing.assert_array_equal(session.run(suffix, {features: session.run(prefix)}), keras_answer[1])


def test_second_copy_in_a_graph_is_refused() -> None:
    with tf.Graph().as_default():
        features = tf.zeros([1, 1, 1, 2048])
        backbone.build(features, "mixed9", "mixed10")
        with pytest.raises(ValueError, match="in this graph already"):
            backbone.build(features, "mixed9", "mixed10")


def test_only_trainable_batch_norm_moves_in_training(directory: str) -> None:
    features = np.random.default_rng(1).uniform(0, 1, (4, 2, 2, 2048)).astype(np.float32)
    learns = ("conv2d_93", "batch_normalization_93")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        network = backbone.build(tf.constant(features), "mixed9", "mixed10", learns, training=True)
        backbone.restore(session, directory)
        before = session.run(network.variables)
        session.run(network.updates)
        after = session.run(network.variables)
        moved = {n for n in before for a, b in zip(before[n], after[n], strict=True) if not np.array_equal(a, b)}
    assert moved == {"batch_normalization_93"}


def test_bad_weights_leave_no_directory_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        backbone.import_weights(BackboneConfig(weights="/nowhere.h5"), str(tmp_path / "backbone"))
    assert list(tmp_path.iterdir()) == []


def test_record_says_what_was_imported(backbone_directory: Path, weights_file: Path) -> None:
    record = backbone.read_record(str(backbone_directory))
    assert (record.weights, record.source, record.random) == (str(weights_file), "weights.h5", False)
    assert record.sha256 == hashlib.sha256(weights_file.read_bytes()).hexdigest()
    assert record.image_size == 75
