"""The trained network as one complete SavedModel: an encoded image or tf.Example in, class probabilities out.

The BatchNorms are folded into the convolutions, and also kept in the model so that it can be unfolded.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from core import atomic_io, checksums, inception_v3, signatures
from core.artifacts import backbone as backbone_artifact
from core.artifacts import exported_model
from core.artifacts.model_limits import MODEL_LIMITS
from core.image_limits import ImageLimits
from core.settings.training import TrainerConfig
from trainer import preprocessing
from trainer.export import warm_up
from trainer.images import tolerant_decoding
from trainer.network import backbone, head
from trainer.training import checkpoints

_SIGNATURES = {
    signatures.EXAMPLES: signatures.EXAMPLES,
    f"images:{signatures.EXAMPLES}": signatures.IMAGES,
    signatures.CLASSIFY: signatures.CLASSIFY,
    signatures.LABELS: signatures.LABELS,
    signatures.FEATURES: signatures.FEATURES,
    signatures.PIXELS: signatures.PIXELS,
    f"images:{signatures.MAPS}": signatures.MAPS,
    f"images:{signatures.EMBED}": signatures.EMBED,
}
"""Estimator's names of the signatures it makes (input alternative:output), and our names of those we keep."""


def export_model(
    estimator: tf.estimator.Estimator,
    trained_checkpoint: str,
    backbone_directory: str,
    transform_directory: str,
    destination: str,
    config: TrainerConfig,
    temperature: float,
    measured: Mapping[str, np.ndarray],
) -> None:
    """Writes the SavedModel atomically.

    Signatures: `serving_default` takes `examples` (tf.Examples; only `image/encoded` is needed), `serving_images` takes
    `images` (image files); both return `probabilities` float32 [n, k], `classes` string [n, k], `label` string [n],
    `probability` float32 [n], `novelty` float32 [n] in [0, 1] (`trainer.network.novelty`), `reason` string [n] and
    `error` string [n]. A label that is withheld is "", and `reason` says why. An image that cannot be read has the
    reason in `error`, the label "" and zeros for all numbers; it does not affect the others. `classify` takes `inputs`
    (tf.Examples) and returns `classes` and, as `scores`, the probabilities. `transform_features` takes `examples` and
    returns `label_xf` int64 [n]. If training read features, `serving_features` takes them (float32 [n, ...], named by
    `core.artifacts.features.features_name`) and returns `probabilities`, `classes`, `novelty` and `reason`. `pixels`
    takes `pixels` (float32 [n, S, S, 3], from `trainer.images.decoding.decode`) and returns the first two. `embed`
    takes `images` and returns `embedding` float32 [n, d], the pooled features that the head sees, and `error`.
    `serving_maps` takes `images` and returns the input of attribution: `pixels`, `map` float32 [n, h, w, c]
    (`trainer.network.backbone.localizing_map`), `logits` float32 [n, k] and `error`. The directory also holds checksums
    (`core.checksums`), the image limits, warm-up requests, and the BatchNorms (`exported_model.batch_norms`).

    Args:
        estimator: of `trainer.network.model.make_model_fn`.
        trained_checkpoint: prefix; has at least the head and the layers that train.
        destination: the directory for `saved_model.pb`.
        temperature: divisor of all logits, which is folded into the last layer.
        measured: the variables of `trainer.network.novelty` and `trainer.network.abstention`.
    """
    values = head.scaled(_read(trained_checkpoint, backbone_directory, config.backbone.output), temperature)
    folded = backbone.fold(values) | dict(measured)
    with atomic_io.staging_directory(destination) as unfinished:
        with tempfile.TemporaryDirectory() as temporary:
            checkpoint = f"{temporary}/folded.ckpt"
            checkpoints.write(checkpoint, folded)
            receiver = functools.partial(_receive, transform_directory, config.limits)
            saved = tf.compat.as_str(estimator.export_saved_model(unfinished, receiver, checkpoint_path=checkpoint))
        _name_signatures(f"{saved}/{tf.saved_model.SAVED_MODEL_FILENAME_PB}")
        tf.io.gfile.makedirs(f"{saved}/assets.extra")
        MODEL_LIMITS.write(saved, config.limits)
        norms = {name: value for name, value in values.items() if name not in folded}
        checkpoints.write(exported_model.batch_norms(saved), norms)
        warm_up.write_warm_up(saved, config.backbone.image_size)
        checksums.write_checksums(saved)
        atomic_io.publish(saved, destination)


def _read(trained_checkpoint: str, backbone_directory: str, output: str) -> dict[str, np.ndarray]:
    """The trained variables, and the pre-trained ones of all other layers up to the block `output`."""
    built = {f"{backbone.SCOPE}/{layer.name}" for layer in inception_v3.between(None, output)}
    pretrained = backbone_artifact.checkpoint(backbone_directory)
    return checkpoints.read(pretrained, lambda name: name.rpartition("/")[0] in built) | checkpoints.read(
        trained_checkpoint
    )


def _receive(transform_directory: str, limits: ImageLimits) -> tf.estimator.export.ServingInputReceiver:
    """The receiver of requests: tf.Examples or, alternatively, encoded images."""
    examples = tf.compat.v1.placeholder(tf.string, [None], "examples")
    raw = preprocessing.parse_examples(examples)
    images = tf.identity(raw[preprocessing.ENCODED], "images")
    transform = preprocessing.load_transform(transform_directory, preprocessing.IMAGE)
    label = preprocessing.load_transform(transform_directory, preprocessing.LABEL)
    image_size = preprocessing.image_size(transform_directory)
    pixels, errors = tolerant_decoding.decode(images, image_size, transform, limits)
    features = {
        preprocessing.IMAGE: tf.identity(pixels, "pixels"),
        preprocessing.LABEL: label(raw[preprocessing.RAW_LABEL]),
        signatures.ERROR: errors,
    }
    return tf.estimator.export.ServingInputReceiver(
        features, {"examples": examples}, receiver_tensors_alternatives={"images": {"images": images}}
    )


def _feed(signature: meta_graph_pb2.SignatureDef, answers: Iterable[str]) -> None:
    """Turns outputs that are not answers into inputs: a session can be fed any tensor."""
    signature.ClearField("inputs")
    for name in set(signature.outputs) - set(answers):
        signature.inputs[name].CopyFrom(signature.outputs[name])
        del signature.outputs[name]


def _name_signatures(path: str) -> None:
    """Gives the signatures their names; Estimator can only combine input and output names."""
    model = saved_model_pb2.SavedModel()
    with tf.io.gfile.GFile(path, "rb") as file:
        model.ParseFromString(file.read())
    for graph in model.meta_graphs:
        kept = meta_graph_pb2.MetaGraphDef()
        for made, name in _SIGNATURES.items():
            if made in graph.signature_def:
                kept.signature_def[name].CopyFrom(graph.signature_def[made])
        answers = kept.signature_def[signatures.EXAMPLES].outputs
        for name in {signatures.FEATURES, signatures.PIXELS} & set(kept.signature_def):
            _feed(kept.signature_def[name], answers)
        graph.ClearField("signature_def")
        graph.MergeFrom(kept)
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(model.SerializeToString(deterministic=True))
