"""Tiny SavedModels with the signatures of the real export, and test images and Examples to send them.

The "network" looks at the mean color of an image: class i is the i-th of red, green and blue; the brighter, the more
novel. It is made with the TF1 builder, as an Estimator makes its exports, and loads in milliseconds. `faults` breaks
one promise at a time.
"""

from __future__ import annotations

import functools
import io
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf
from PIL import Image

from core import checksums, signatures
from core.examples import IMAGE
from trainer.images import tolerant_decoding

COLORS = ("red", "green", "blue")

Fault = Literal[
    "nan",
    "not_normalized",
    "batch_dependent",
    "swallows_anything",
    "bad_images_spoil_the_batch",
    "no_images_signature",
    "refuses_wide_images",
    "wrong_best_class",
]

_SIZE = 8


def image_bytes(color: int, *, side: int = 24, seed: int = 0, format: str = "JPEG") -> bytes:  # noqa: A002 - PIL's name
    """A noisy image whose strongest channel is `color` (0 red, 1 green, 2 blue), encoded."""
    pixels = np.random.default_rng(seed).integers(0, 90, (side, side, 3), dtype=np.uint8)
    pixels[..., color] += 140
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def example(image: bytes, label: str, **slices: str) -> tf.train.Example:
    """A raw example as in the pipeline, with the features that models and slices read."""
    values = {"image/encoded": image, "label": label.encode()}
    values |= {f"slice/{name}": value.encode() for name, value in slices.items()}
    return tf.train.Example(
        features=tf.train.Features(
            feature={k: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])) for k, v in values.items()}
        )
    )


def write_examples(directory: Path, split: str, examples: Sequence[tf.train.Example]) -> Path:
    """Writes one shard the way ExampleGen names it; returns the split's folder."""
    folder = directory / f"Split-{split}"
    folder.mkdir(parents=True)
    path = folder / "data_tfrecord-00000-of-00001.gz"
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for item in examples:
            writer.write(item.SerializeToString())
    return folder


def save_model(
    directory: Path,
    *,
    classes: Sequence[str] = COLORS,
    served_classes: Sequence[str] | None = None,
    certainty: float = 10.0,
    faults: Sequence[Fault] = (),
    takes_features: bool = False,
    least_probability: float = 0.0,
) -> Path:
    """Writes a SavedModel and returns its folder.

    Building it takes a second, so a model with the same arguments is copied.

    Args:
        directory: must not exist yet.
        classes: names in the asset, at most three.
        served_classes: names the model answers with, if not those of the asset.
        certainty: scales the logits; a negative one is wrong about most images.
        faults: promises to break.
        takes_features: whether it has the signature `serving_features`, which takes an image's mean color.
        least_probability: below it, the label is withheld.
    """
    model = _build(
        tuple(classes),
        tuple(served_classes or classes),
        certainty,
        frozenset(faults),
        takes_features=takes_features,
        least_probability=least_probability,
    )
    return Path(shutil.copytree(model, directory))


_BUILT = tempfile.TemporaryDirectory(prefix="models-")


@functools.cache
def _build(
    classes: Sequence[str],
    served_classes: Sequence[str],
    certainty: float,
    faults: Collection[Fault],
    *,
    takes_features: bool,
    least_probability: float,
) -> Path:
    directory = Path(tempfile.mkdtemp(dir=_BUILT.name)) / "model"
    asset = directory.with_name("classes.txt")
    asset.write_text("".join(f"{name}\n" for name in classes))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        weights = tf.compat.v1.get_variable(
            "weights", initializer=np.eye(3, len(classes), dtype=np.float32) * certainty
        )
        asset_path = tf.constant(str(asset))
        tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS, asset_path)
        labels = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                asset_path,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=-1,
        )
        examples = tf.compat.v1.placeholder(tf.string, [None], "examples")
        images = tf.compat.v1.placeholder(tf.string, [None], "images")
        features = {name: tf.io.FixedLenFeature([1], tf.string, default_value="") for name in (IMAGE, "label")}
        parsed = tf.io.parse_example(examples, features)
        names = tf.constant(list(served_classes))
        by_example, color = _outputs(parsed[IMAGE][:, 0], weights, names, faults, least_probability)
        definitions = {
            signatures.EXAMPLES: _signature({"examples": examples}, by_example),
            signatures.CLASSIFY: tf.compat.v1.saved_model.classification_signature_def(
                examples, by_example["classes"], by_example["probabilities"]
            ),
            signatures.LABELS: _signature({"examples": examples}, {"label_xf": labels.lookup(parsed["label"][:, 0])}),
        }
        if "no_images_signature" not in faults:
            by_image, _ = _outputs(images, weights, names, faults, least_probability)
            definitions[signatures.IMAGES] = _signature({"images": images}, by_image)
        pixels, errors = tolerant_decoding.decode(images, _SIZE, lambda file: _pixels(file, ()))
        logits = tf.reduce_mean(pixels, axis=[1, 2]) @ weights
        maps = {"pixels": pixels, "map": pixels, "logits": logits, signatures.ERROR: errors}
        definitions[signatures.MAPS] = _signature({"images": images}, maps)
        definitions[signatures.PIXELS] = _signature({"pixels": pixels}, {"probabilities": tf.nn.softmax(logits)})
        if takes_features:
            scores = _answer(color, weights, least_probability)
            definitions[signatures.FEATURES] = _signature(
                {"pooled_mixed10": color}, {**scores, "classes": by_example["classes"]}
            )
        session.run(tf.compat.v1.global_variables_initializer())
        builder = tf.compat.v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(
            session,
            [tf.saved_model.SERVING],
            signature_def_map=definitions,
            assets_collection=[asset_path],
            main_op=tf.compat.v1.tables_initializer(),
        )
        builder.save()
    checksums.write_checksums(str(directory))
    return directory


def _outputs(
    encoded: tf.Tensor, weights: tf.Tensor, names: tf.Tensor, faults: Collection[Fault], least_probability: float
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """What signatures of images return, and the images' mean colors, float32 [n, 3]."""
    count = tf.shape(encoded)[0]
    errors = tf.fill([count], "")
    if "swallows_anything" in faults:
        color = tf.cast(tf.strings.length(encoded)[:, None] % tf.constant([2, 3, 5]), tf.float32)
    elif "bad_images_spoil_the_batch" in faults:
        pixels = tf.map_fn(lambda file: _pixels(file[None], faults)[0], encoded, fn_output_signature=tf.float32)
        color = tf.reduce_mean(pixels, axis=[1, 2])
    else:
        pixels, errors = tolerant_decoding.decode(encoded, _SIZE, lambda file: _pixels(file, faults))
        color = tf.reduce_mean(pixels, axis=[1, 2])
    if "batch_dependent" in faults:
        color *= tf.cast(count, tf.float32)
    good = tf.equal(errors, "")
    answer = _answer(color, weights, least_probability)
    probabilities = tf.where(good[:, None], answer["probabilities"], 0.0)
    reasons = tf.where(good, answer[signatures.REASON], "")
    if "nan" in faults:
        probabilities *= np.nan
    if "not_normalized" in faults:
        probabilities *= 2
    best = tf.argmax(probabilities, axis=1)
    if "wrong_best_class" in faults:
        best = tf.argmin(probabilities, axis=1)
    outputs = {
        "probabilities": probabilities,
        "classes": tf.tile(names[None], [tf.shape(color)[0], 1]),
        "label": tf.where(good & tf.equal(reasons, ""), tf.gather(names, best), ""),
        "probability": tf.reduce_max(probabilities, axis=1),
        signatures.NOVELTY: tf.where(good, answer[signatures.NOVELTY], 0.0),
        signatures.REASON: reasons,
        signatures.ERROR: errors,
    }
    return outputs, color


def _answer(color: tf.Tensor, weights: tf.Tensor, least_probability: float) -> dict[str, tf.Tensor]:
    probabilities = tf.nn.softmax(color @ weights)
    improbable = tf.reduce_max(probabilities, axis=1) < least_probability
    novelty = tf.clip_by_value((tf.reduce_mean(color, axis=1) + 1) / 2, 0.0, 1.0)
    reasons = tf.where(improbable, "the probability is too low", "")
    return {"probabilities": probabilities, signatures.NOVELTY: novelty, signatures.REASON: reasons}


def _pixels(file: tf.Tensor, faults: Collection[Fault]) -> tf.Tensor:
    """One image file, string [1], to float32 [1, S, S, 3] in [-1, 1]."""
    image = tf.io.decode_image(file[0], channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    if "refuses_wide_images" in faults:
        with tf.control_dependencies([tf.debugging.assert_less(tf.shape(image)[1], 32, "too wide")]):
            image = tf.identity(image)
    return tf.image.resize(image, [_SIZE, _SIZE])[None] / 127.5 - 1.0


def _signature(inputs: dict[str, tf.Tensor], outputs: dict[str, tf.Tensor]) -> tf.compat.v1.saved_model.SignatureDef:  # type: ignore[name-defined]
    return tf.compat.v1.saved_model.predict_signature_def(inputs, outputs)
