"""Prints what a SavedModel answers for images, with whatever TensorFlow runs this; imports nothing of the project.

    python probabilities.py MODEL_DIR IMAGES.npz

IMAGES.npz holds `images`, an array of bytes objects. Prints one JSON object: `tensorflow`, its version, and for the
loaders of TensorFlow 1 and 2 `probabilities` and `error`, for that of 1 also `logits`.
"""

import json
import sys

import numpy as np
import tensorflow as tf


def main() -> None:
    directory, images = sys.argv[1], list(np.load(sys.argv[2], allow_pickle=True)["images"])
    loaded = tf.saved_model.load(directory).signatures["serving_images"](images=tf.constant(images))
    answers = {"2": {name: value.numpy() for name, value in loaded.items()}}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], directory).signature_def["serving_images"]
        (softmax, *_) = (op for op in session.graph.get_operations() if op.type == "Softmax")
        fetches = {name: tensor.name for name, tensor in signature.outputs.items()} | {"logits": softmax.inputs[0].name}
        answers["1"] = session.run(fetches, {signature.inputs["images"].name: images})
    shown = {
        loader: {name: answer[name].tolist() for name in ("probabilities", "logits") if name in answer}
        | {"error": [error.decode() for error in answer["error"]]}
        for loader, answer in answers.items()
    }
    print(json.dumps({"tensorflow": tf.__version__, **shown}))


if __name__ == "__main__":
    main()
