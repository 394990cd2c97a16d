"""An Estimator with the base in its model_fn, as most examples have it: the base runs in every step.

Its weights are assigned once the session has initialized all variables, or they would be lost. Evaluated on val at the
end of training, as `train_and_evaluate` does without further settings, and then on test.
"""

import tempfile
from typing import Any

import tensorflow as tf

from benchmarks.peers import common


def main() -> None:
    """Trains and evaluates."""
    given = common.options(__doc__ or "")

    def train() -> float:
        weights, classes = common.base(given).get_weights(), common.classes(given)

        def model_fn(features: tf.Tensor, labels: tf.Tensor, mode: str) -> tf.estimator.EstimatorSpec:
            base = tf.keras.applications.InceptionV3(include_top=False, weights=None, input_shape=features.shape[1:])
            pooled = tf.keras.layers.GlobalAveragePooling2D()(base(features, training=False))
            training = mode == tf.estimator.ModeKeys.TRAIN
            head = tf.keras.layers.Dense(classes)
            logits = head(tf.keras.layers.Dropout(0.2)(pooled, training=training))
            loss = tf.compat.v1.losses.sparse_softmax_cross_entropy(labels, logits)
            step = tf.compat.v1.train.get_or_create_global_step()
            optimizer = tf.compat.v1.train.AdamOptimizer(1e-3)
            accuracy = tf.compat.v1.metrics.accuracy(labels, tf.argmax(logits, 1))

            def assign(_: Any, session: tf.compat.v1.Session) -> None:
                for variable, value in zip(base.weights, weights, strict=True):
                    variable.load(value, session)

            return tf.estimator.EstimatorSpec(
                mode,
                loss=loss,
                train_op=optimizer.minimize(loss, step, var_list=head.trainable_weights) if training else None,
                eval_metric_ops={"accuracy": accuracy},
                scaffold=tf.compat.v1.train.Scaffold(init_fn=assign),
            )

        def train_input() -> tf.data.Dataset:
            return common.split(given, "train", shuffle=True).repeat()

        with tempfile.TemporaryDirectory() as folder:
            estimator = tf.estimator.Estimator(model_fn, folder)
            tf.estimator.train_and_evaluate(
                estimator,
                tf.estimator.TrainSpec(train_input, given.epochs * common.steps(given)),
                tf.estimator.EvalSpec(lambda: common.split(given, "val"), steps=None, start_delay_secs=0),
            )
            return float(estimator.evaluate(lambda: common.split(given, "test"))["accuracy"])

    common.report(train)


if __name__ == "__main__":
    main()
