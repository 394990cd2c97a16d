"""Warm-up requests that a server sends itself after loading the model, so that the first client does not wait.

TensorFlow prepares a signature (the part of the graph to run, its optimization, the convolution kernels) at its first
request. The requests are where TensorFlow Serving expects them, as TFRecords of its PredictionLog
(https://www.tensorflow.org/tfx/serving/saved_model_warmup); `components.serving` sends them too.
"""

from __future__ import annotations

import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from core import signatures, tfrecords
from core.examples import IMAGE

WARM_UP = "assets.extra/tf_serving_warmup_requests"


def write_warm_up(directory: str, image_size: int) -> None:
    """Writes requests into a SavedModel: one gray image for each signature that takes images."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        image = session.run(tf.io.encode_jpeg(tf.fill([image_size, image_size, 3], tf.constant(127, tf.uint8))))
    example = tf.train.Example()
    example.features.feature[IMAGE].bytes_list.value.append(image)
    with tf.io.TFRecordWriter(f"{directory}/{WARM_UP}") as file:
        file.write(_predict(signatures.IMAGES, "images", image))
        file.write(_predict(signatures.EXAMPLES, "examples", example.SerializeToString()))
        log = PredictionLog()
        log.classify_log.request.model_spec.signature_name = signatures.CLASSIFY
        log.classify_log.request.input.example_list.examples.append(example)
        file.write(log.SerializeToString())


def read_warm_up(directory: str) -> list[PredictionLog]:
    """The warm-up requests in a SavedModel; none for other programs' exports."""
    path = f"{directory}/{WARM_UP}"
    if not tf.io.gfile.exists(path):
        return []
    return [PredictionLog.FromString(record) for record in tfrecords.dataset([path]).as_numpy_iterator()]


def _predict(signature: str, name: str, value: bytes) -> bytes:
    log = PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto([value]))
    return log.SerializeToString()
