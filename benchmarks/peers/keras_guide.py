"""Transfer learning as in Keras's guide (https://keras.io/guides/transfer_learning): the base runs in every epoch.

A frozen base in inference mode, pooling, dropout and a new top in one model; `fit` on the pictures. The guide's
augmentation is left out, as no other peer has it.
"""

import tensorflow as tf

from benchmarks.peers import common


def main() -> None:
    """Trains, evaluates on val after each epoch, as the guide does, and then on test."""
    given = common.options(__doc__ or "")

    def train() -> float:
        base = common.base(given)
        inputs = tf.keras.Input(base.input_shape[1:])
        features = tf.keras.layers.GlobalAveragePooling2D()(base(inputs, training=False))
        outputs = tf.keras.layers.Dense(common.classes(given))(tf.keras.layers.Dropout(0.2)(features))
        model = tf.keras.Model(inputs, outputs)
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(tf.keras.optimizers.Adam(1e-3), loss, ["accuracy"])
        val = common.split(given, "val")
        model.fit(common.split(given, "train", shuffle=True), epochs=given.epochs, validation_data=val, verbose=2)
        return model.evaluate(common.split(given, "test"), verbose=2)[1]

    common.report(train)


if __name__ == "__main__":
    main()
