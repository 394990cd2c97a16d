import hashlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from core import inception_v3
from core.artifacts import backbone as artifact
from core.errors import InputError
from core.settings.training import BackboneConfig
from tests.trainer.conftest import KerasAnswer
from trainer.network import backbone
from trainer.training import checkpoints
from trainer.weights.importing import import_weights


def test_network_from_the_checkpoint_computes_what_keras_computes(
    keras_answer: KerasAnswer, backbone_directory: Path
) -> None:
    """Also where the graph, and its Keras counters, had other things in them before."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        keras.layers.Conv2D(3, 3)(keras.Input((75, 75, 3)))
        with tf.name_scope("elsewhere"):
            output = backbone.build(tf.constant(keras_answer.images), None, "mixed10").blocks["mixed10"]
        pooled = backbone.pooled(output)
        names = {v.op.name for v in tf.compat.v1.global_variables() if v.op.name.startswith("InceptionV3/")}
        backbone.restore(session, str(backbone_directory))
        computed, average = session.run([output, pooled])
    np.testing.assert_array_equal(computed, keras_answer.output)
    np.testing.assert_allclose(average, keras_answer.output.mean((1, 2)), rtol=1e-6)
    assert names == {f"InceptionV3/{layer.name}/{w}" for layer in inception_v3.layers() for w, _ in layer.weights}
    assert names == set(checkpoints.read(artifact.checkpoint(str(backbone_directory))))


def test_prefix_and_suffix_are_the_whole(keras_answer: KerasAnswer, backbone_directory: Path) -> None:
    cut = "mixed8"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        prefix = backbone.frozen_prefix(tf.constant(keras_answer.images), cut, "mixed10")  # folded
        features = tf.compat.v1.placeholder(tf.float32, prefix.shape)
        suffix = backbone.build(features, cut, "mixed10").blocks["mixed10"]
        backbone.restore(session, str(backbone_directory))
        computed = session.run(suffix, {features: session.run(prefix)})
    scale = np.abs(keras_answer.output).max()
    np.testing.assert_allclose(computed, keras_answer.output, rtol=1e-4, atol=1e-5 * scale)


def test_a_folded_network_has_a_bias_for_every_batch_norm_and_computes_the_same(
    keras_answer: KerasAnswer, backbone_directory: Path
) -> None:
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        network = backbone.build(tf.constant(keras_answer.images), None, "mixed10", folded=True)
        backbone.restore(session, str(backbone_directory))
        computed = session.run(network.blocks["mixed10"])
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("Conv2D") == kinds.count("BiasAdd") == 94
    assert not [kind for kind in kinds if "BatchNorm" in kind]
    folded = backbone.fold(checkpoints.read(artifact.checkpoint(str(backbone_directory))))
    assert {v.op.name for layer in network.variables.values() for v in layer} == set(folded)
    scale = np.abs(keras_answer.output).max()
    np.testing.assert_allclose(computed, keras_answer.output, rtol=1e-4, atol=1e-5 * scale)


def test_second_copy_in_a_graph_is_refused() -> None:
    with tf.Graph().as_default():
        features = tf.zeros([1, 1, 1, 2048])
        backbone.build(features, "mixed9", "mixed10")
        with pytest.raises(ValueError, match="in this graph already"):
            backbone.build(features, "mixed9", "mixed10")


def test_only_trainable_batch_norm_moves_in_training(backbone_directory: Path) -> None:
    features = np.random.default_rng(1).uniform(0, 1, (4, 2, 2, 2048)).astype(np.float32)
    learns = ("conv2d_93", "batch_normalization_93")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        network = backbone.build(tf.constant(features), "mixed9", "mixed10", learns, training=True)
        backbone.restore(session, str(backbone_directory))
        before = session.run(network.variables)
        session.run(network.updates)
        after = session.run(network.variables)
        moved = {n for n in before for a, b in zip(before[n], after[n], strict=True) if not np.array_equal(a, b)}
    assert moved == {"batch_normalization_93"}


def test_bad_weights_leave_no_directory_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        import_weights(BackboneConfig(weights="/nowhere.h5"), str(tmp_path / "backbone"))
    assert list(tmp_path.iterdir()) == []


def test_record_says_what_was_imported(backbone_directory: Path, weights_file: Path) -> None:
    record = artifact.RECORD.read(str(backbone_directory))
    assert (record.weights, record.source, record.random) == (str(weights_file), "weights.h5", False)
    assert record.sha256 == hashlib.sha256(weights_file.read_bytes()).hexdigest()
    assert record.image_size == 75
