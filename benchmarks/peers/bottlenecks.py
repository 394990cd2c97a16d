"""Bottlenecks, as TF-Hub's retrain.py: the base runs once a picture, and the head is trained on what it gave."""

import numpy as np
import tensorflow as tf

from benchmarks.peers import common


def main() -> None:
    """Computes the bottlenecks of all splits, trains the head on them, and evaluates it on test."""
    given = common.options(__doc__ or "")

    def train() -> float:
        base = common.base(given)
        pooled = tf.keras.Model(base.input, tf.keras.layers.GlobalAveragePooling2D()(base.output))

        def bottlenecks(split: str) -> tuple[np.ndarray, np.ndarray]:
            found = [(pooled(pixels, training=False), label) for pixels, label in common.split(given, split)]
            return np.concatenate([values for values, _ in found]), np.concatenate([label for _, label in found])

        head = tf.keras.Sequential([tf.keras.layers.Dropout(0.2), tf.keras.layers.Dense(common.classes(given))])
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        head.compile(tf.keras.optimizers.Adam(1e-3), loss, ["accuracy"])
        features, labels = bottlenecks("train")
        head.fit(features, labels, given.batch, given.epochs, validation_data=bottlenecks("val"), verbose=2)
        return head.evaluate(*bottlenecks("test"), verbose=2)[1]

    common.report(train)


if __name__ == "__main__":
    main()
