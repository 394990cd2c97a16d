"""Prints what a SavedModel answers for images, with whatever TensorFlow runs this; imports nothing of the project.

    python probabilities.py MODEL_DIR IMAGES.npz [FILE.tflite ...]

IMAGES.npz holds `images`, an array of bytes objects. Prints one JSON object: `tensorflow`, its version, and for the
loaders of TensorFlow 1 and 2 `probabilities` and `error`, for that of 1 also `logits`, for that of 2 also `embedding`,
and `pixels` and the names of the TensorFlow Lite files: their probabilities for what the network sees of good images.
"""

import json
import sys

import numpy as np
import tensorflow as tf


def of_tflite(file: str, pixels: np.ndarray) -> np.ndarray:
    interpreter = tf.lite.Interpreter(file, num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for image in pixels:
        interpreter.set_tensor(taken["index"], image[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(given["index"])[0])
    return np.array(found)


def shown_of(answer: dict) -> list[str]:
    return [name for name in ("probabilities", "logits", "embedding", "pixels", *sys.argv[3:]) if name in answer]


def main() -> None:
    directory, images = sys.argv[1], list(np.load(sys.argv[2], allow_pickle=True)["images"])
    model = tf.saved_model.load(directory)  # kept, since its functions hold its variables weakly
    ask = {name: model.signatures[name] for name in ("serving_images", "embed", "serving_maps", "pixels")}
    loaded = ask["serving_images"](images=tf.constant(images))
    answers = {"2": {name: value.numpy() for name, value in loaded.items()}}
    answers["2"]["embedding"] = ask["embed"](images=tf.constant(images))["embedding"].numpy()
    good = [image for image, error in zip(images, answers["2"]["error"].tolist(), strict=True) if not error]
    pixels = ask["serving_maps"](images=tf.constant(good))["pixels"].numpy()
    answers["2"]["pixels"] = ask["pixels"](pixels=tf.constant(pixels))["probabilities"].numpy()
    for file in sys.argv[3:]:
        answers["2"][file] = of_tflite(file, pixels)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], directory).signature_def["serving_images"]
        (softmax, *_) = (op for op in session.graph.get_operations() if op.type == "Softmax")
        fetches = {name: tensor.name for name, tensor in signature.outputs.items()} | {"logits": softmax.inputs[0].name}
        answers["1"] = session.run(fetches, {signature.inputs["images"].name: images})
    shown = {
        loader: {name: answer[name].tolist() for name in shown_of(answer)}
        | {"error": [error.decode() for error in answer["error"]]}
        for loader, answer in answers.items()
    }
    print(json.dumps({"tensorflow": tf.__version__, **shown}))


if __name__ == "__main__":
    main()
