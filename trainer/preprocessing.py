"""From an encoded image and a class name to the network's input: one TensorFlow graph for training and serving.

Transform runs `preprocessing_fn` once to collect the classes, and saves its graph; FeatureExtractor, live training
input and the exported model all apply that saved graph.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.beam.experimental import PTransformAnalyzer
from tensorflow_transform.saved.saved_transform_io_v2 import SavedModelLoader

from core import examples
from core.artifacts import exported_model
from core.image_limits import Transparent
from trainer.images import decoding

ENCODED = examples.IMAGE
RAW_LABEL = examples.LABEL
IMAGE = "image"
LABEL = "label_xf"

_NO_NAME = b"?"  # an empty file cannot be loaded; ValidationGate reports that there are no images


def preprocessing_fn(inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """TFX Transform's entry point.

    Args:
        inputs: `image/encoded` and `label`, both string [b] or [b, 1]; other features are ignored.
        custom_config: `image_size`, in pixels; `transparent` and `stretch` of `core.image_limits.ImageLimits`.

    Returns:
        `image` float32 [b, S, S, 3], RGB in [-1, 1]; `label_xf` int64 [b], the class's index in `classes.txt`, or -1
        for a class that the analyzed split does not have.
    """
    encoded = tf.reshape(inputs[ENCODED], [-1])
    labels = tf.reshape(inputs[RAW_LABEL], [-1])
    (classes,) = tft.experimental.ptransform_analyzer(
        [labels], _SortedNames(), [tf.string], [[]], output_asset_default_values=[_NO_NAME + b"\n"], name="classes"
    )
    decode = _decoder(int(custom_config["image_size"]), custom_config["transparent"], custom_config["stretch"])
    return {
        IMAGE: decode(encoded),
        LABEL: tft.apply_vocabulary(labels, classes),
    }


@functools.cache
def _decoder(image_size: int, transparent: Transparent, stretch: int | None) -> Callable[[tf.Tensor], tf.Tensor]:
    """`decoding.decode`, traced once per process, since TensorFlow Transform traces `preprocessing_fn` ten times."""
    decode = functools.partial(decoding.decode, image_size=image_size, transparent=transparent, stretch=stretch)
    return tf.function(decode, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)


def parse_examples(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """`image/encoded` and `label`, string [b], from tf.Examples, string [b]; a missing label is ""."""
    spec = {name: tf.io.FixedLenFeature([1], tf.string, default_value="") for name in (ENCODED, RAW_LABEL)}
    return {name: values[:, 0] for name, values in tf.io.parse_example(serialized, spec).items()}


def load_transform(transform_directory: str, output: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Loads the part of Transform's graph that computes `IMAGE` or `LABEL` into the current graph.

    Loading and applying are separate so that a `Dataset.map` can apply what was loaded outside it: tables then belong
    to the graph, which initializes them. (`TFTransformOutput.transform_raw_features` would run the entire graph, with
    made-up values for missing inputs.)

    Returns:
        Maps image files, string [b], to float32 [b, S, S, 3]; or class names, string [b], to their index in
        `classes.txt`, int64 [b], -1 if unknown.
    """
    source = {IMAGE: ENCODED, LABEL: RAW_LABEL}[output]
    saved = tft.TFTransformOutput(transform_directory)
    shape = saved.transformed_feature_spec()[output].shape
    loader = SavedModelLoader(saved.transform_savedmodel_dir)
    loader.finalize([source], [output])

    def apply(raw: tf.Tensor) -> tf.Tensor:
        tensor = loader.apply_transform_model({source: raw[:, None]})[output]
        tensor.set_shape([None, *shape])  # lost in the saved graph
        return tensor

    return apply


def transform_examples(transform_directory: str, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Computes `IMAGE` and `LABEL` from raw tf.Examples, string [b]; fetching only the label decodes no image."""
    raw = parse_examples(serialized)
    return {
        IMAGE: load_transform(transform_directory, IMAGE)(raw[ENCODED]),
        LABEL: load_transform(transform_directory, LABEL)(raw[RAW_LABEL]),
    }


def image_size(transform_directory: str) -> int:
    """S, the side of the images Transform makes, in pixels."""
    return tft.TFTransformOutput(transform_directory).transformed_feature_spec()[IMAGE].shape[0]


def class_names(transform_directory: str) -> list[str]:
    """The classes, in the order of `label_xf` and of the model's outputs: sorted by name."""
    return exported_model.class_names(tft.TFTransformOutput(transform_directory).transform_savedmodel_dir)


class _SortedNames(PTransformAnalyzer):
    """Writes the distinct labels, sorted, as a vocabulary file.

    `tft.vocabulary` sorts by frequency: one more photo of roses could swap two classes, and a warm start would then
    begin with a head whose columns mean something else.
    """

    def expand(self, batches: beam.PCollection[tuple[np.ndarray]]) -> beam.PCollection[str]:
        return (
            batches
            | "DistinctInBatch" >> beam.FlatMap(lambda batch: set(batch[0].tolist()))
            | "Distinct" >> beam.Distinct()
            | "Collect" >> beam.combiners.ToList()
            | "Write" >> beam.Map(_write_sorted, directory=self.base_temp_dir)
        )


def _write_sorted(names: Iterable[bytes], directory: str) -> str:
    tf.io.gfile.makedirs(directory)
    path = f"{directory}/{exported_model.CLASSES_ASSET}"
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(b"".join(name + b"\n" for name in sorted(names) or [_NO_NAME]))
    return path
