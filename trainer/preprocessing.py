"""From an encoded image and a class name to what the network reads: one TensorFlow graph for training and serving.

Transform runs `preprocessing_fn` once to find the classes, and saves its graph; FeatureExtractor, live training input
and the exported model all apply that saved graph, so no second version of the preprocessing exists that could differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.beam.experimental import PTransformAnalyzer
from tensorflow_transform.saved.saved_transform_io_v2 import SavedModelLoader

from trainer import signatures

ENCODED = signatures.IMAGE_FEATURE
RAW_LABEL = "label"
IMAGE = "image"
LABEL = "label_xf"
CLASSES = signatures.CLASSES_ASSET
"""File of the class names, one a line, in the order of the labels; an asset of every exported model."""

_PARALLEL_IMAGES = 8
_EXIF_WINDOW = 16384  # bytes; the EXIF segment comes first in a JPEG, its orientation entry near its start


def preprocessing_fn(inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """TFX Transform's entry point.

    Args:
        inputs: `image/encoded` and `label`, both string [b] or [b, 1]; other features are ignored.
        custom_config: `image_size`, in pixels.

    Returns:
        `image` float32 [b, S, S, 3], RGB in [-1, 1]; `label_xf` int64 [b], the class's place in `classes.txt`, or -1
        for a class that the analysed split does not have.
    """
    encoded = tf.reshape(inputs[ENCODED], [-1])
    labels = tf.reshape(inputs[RAW_LABEL], [-1])
    (classes,) = tft.experimental.ptransform_analyzer(
        [labels], _SortedNames(), [tf.string], [[]], output_asset_default_values=[b"?\n"], name="classes"
    )
    return {
        IMAGE: decode(encoded, int(custom_config["image_size"])),
        LABEL: tft.apply_vocabulary(labels, classes),
    }


def decode(encoded: tf.Tensor, image_size: int) -> tf.Tensor:
    """Decodes, turns upright, resizes and scales images as InceptionV3 was trained on them.

    Any colour mode becomes RGB (transparency is dropped, of an animation the first frame is taken). Resizing is
    bilinear with antialiasing: without it, a large photo would be sampled at 299 of its thousands of pixels a side.

    Args:
        encoded: string [b]; JPEG, PNG, GIF or BMP files.
        image_size: S, in pixels.

    Returns:
        float32 [b, S, S, 3] in [-1, 1].
    """

    def one(file: tf.Tensor) -> tf.Tensor:
        pixels = tf.image.decode_image(file, channels=3, expand_animations=False)
        pixels.set_shape([None, None, 3])
        resized = tf.image.resize(upright(pixels, orientation(file)), [image_size, image_size], antialias=True)
        # Resizing rounds past the ends. No division: where TensorFlow optimizes a graph it makes it a multiplication,
        # which rounds differently, and in tf.data's functions, as in the exported model, it does not.
        return tf.clip_by_value(resized, 0.0, 255.0) * (1 / 127.5) - 1.0

    spec = tf.TensorSpec([image_size, image_size, 3], tf.float32)
    return tf.map_fn(one, encoded, parallel_iterations=_PARALLEL_IMAGES, fn_output_signature=spec)


def orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of an image file: TensorFlow's decoders ignore it, and phones rely on it.

    Reads tag 0x0112 of the first image directory (EXIF 2.32, section 4.6); whatever is absent, malformed or out of
    range counts as 1, upright.

    Args:
        encoded: string scalar.

    Returns:
        int32 scalar, 1 to 8.
    """
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 0, _EXIF_WINDOW), tf.uint8), tf.int32)
    head = tf.pad(head, [[0, 16]])  # so that no gather below needs a case for an empty file
    last = tf.size(head) - 1
    is_jpeg = tf.reduce_all(tf.equal(head[:2], [0xFF, 0xD8]))
    marks = [tf.equal(head[i : last - 5 + i], byte) for i, byte in enumerate(b"Exif\0\0")]
    found = tf.where(tf.reduce_all(tf.stack(marks), axis=0))
    tiff = tf.cast(tf.concat([found[:, 0], [0]], 0)[0], tf.int32) + 6
    little = tf.equal(head[tf.minimum(tiff, last)], ord("I"))

    def number(positions: tf.Tensor, size: int) -> tf.Tensor:
        octets = tf.gather(head, tf.clip_by_value(positions[..., None] + tf.range(size), 0, last))
        powers = 256 ** np.arange(size, dtype=np.int32)
        return tf.reduce_sum(octets * tf.where(little, powers, powers[::-1]), axis=-1)

    directory = tiff + tf.clip_by_value(number(tiff + 4, 4), 0, _EXIF_WINDOW)
    entries = directory + 2 + 12 * tf.range(tf.minimum(number(directory, 2), 64))
    values = tf.boolean_mask(number(entries + 8, 2), tf.equal(number(entries, 2), 0x0112))
    value = tf.concat([values, [1]], 0)[0]
    valid = is_jpeg & (tf.size(found) > 0) & (value >= 1) & (value <= 8)
    return tf.where(valid, value, 1)


def upright(pixels: tf.Tensor, exif: tf.Tensor) -> tf.Tensor:
    """Undoes an EXIF orientation: [h, w, 3] and an int32 scalar in, [h, w, 3] or [w, h, 3] out, the same dtype."""
    turned = tf.cond(exif >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    turned = tf.cond(tf.reduce_any(tf.equal(exif, [3, 4, 7, 8])), lambda: tf.reverse(turned, [0]), lambda: turned)
    turned = tf.cond(tf.reduce_any(tf.equal(exif, [2, 3, 6, 7])), lambda: tf.reverse(turned, [1]), lambda: turned)
    turned.set_shape([None, None, 3])
    return turned


def parse_examples(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """The raw features the saved graph reads, from tf.Examples.

    Args:
        serialized: string [b]; a missing label, as in serving, counts as the empty name.

    Returns:
        `image/encoded` and `label`, string [b].
    """
    spec = {name: tf.io.FixedLenFeature([1], tf.string, default_value="") for name in (ENCODED, RAW_LABEL)}
    return {name: values[:, 0] for name, values in tf.io.parse_example(serialized, spec).items()}


def load_image_transform(transform_directory: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Loads, into the current graph, what Transform saved: image files, string [b], to float32 [b, S, S, 3].

    Loading and applying are apart so that a `Dataset.map` can apply what was loaded outside of it: tables then belong
    to the graph, which initialises them.
    """
    return _load(transform_directory, ENCODED, IMAGE)


def load_label_transform(transform_directory: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Likewise for labels: class names, string [b], to their place in `classes.txt`, int64 [b]; -1 if unknown."""
    return _load(transform_directory, RAW_LABEL, LABEL)


def transform_examples(transform_directory: str, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Loads and applies both parts to raw tf.Examples.

    Args:
        transform_directory: what Transform wrote.
        serialized: string [b].

    Returns:
        `image` float32 [b, S, S, 3] and `label_xf` int64 [b]; who fetches only the label decodes no image.
    """
    raw = parse_examples(serialized)
    return {
        IMAGE: load_image_transform(transform_directory)(raw[ENCODED]),
        LABEL: load_label_transform(transform_directory)(raw[RAW_LABEL]),
    }


def image_size(transform_directory: str) -> int:
    """S, the side of the images Transform makes, in pixels."""
    return tft.TFTransformOutput(transform_directory).transformed_feature_spec()[IMAGE].shape[0]


def class_file(transform_directory: str) -> str:
    """The path of `classes.txt` under what Transform wrote."""
    saved = tft.TFTransformOutput(transform_directory)
    return f"{saved.transform_savedmodel_dir}/{tf.saved_model.ASSETS_DIRECTORY}/{CLASSES}"


def class_names(transform_directory: str) -> list[str]:
    """The classes, in the order of `label_xf` and of the model's outputs: sorted by name."""
    with tf.io.gfile.GFile(class_file(transform_directory)) as file:
        return file.read().splitlines()


def _load(transform_directory: str, source: str, output: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """The part of the saved graph that leads from one raw feature, string [b], to one output.

    `TFTransformOutput.transform_raw_features` would run the whole graph, on made-up values for what is not given.
    """
    saved = tft.TFTransformOutput(transform_directory)
    shape = saved.transformed_feature_spec()[output].shape
    loader = SavedModelLoader(saved.transform_savedmodel_dir)
    loader.finalize([source], [output])

    def apply(raw: tf.Tensor) -> tf.Tensor:
        tensor = loader.apply_transform_model({source: raw[:, None]})[output]
        tensor.set_shape([None, *shape])  # lost in the saved graph
        return tensor

    return apply


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
    path = f"{directory}/{CLASSES}"
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(b"".join(name + b"\n" for name in sorted(names)))
    return path
