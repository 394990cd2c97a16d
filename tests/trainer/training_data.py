"""Small real data for the trainer's tests: images, raw examples, Transform's output, and features."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform.beam as tft_beam
from google.protobuf import text_format
from PIL import Image
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio import tf_example_record

from core import tfrecords
from core.artifacts.features import FEATURES_FILE, UNVARIED, Features, SplitFeatures
from core.settings import converter
from core.settings.training import TrainerConfig
from trainer import preprocessing
from trainer.images import decoding
from trainer.network import backbone

SIZE = 75
CLASSES = ("blue", "green", "red")

_SCHEMA = """
feature { name: "image/encoded" type: BYTES presence { min_fraction: 1 } shape { dim { size: 1 } } }
feature { name: "label" type: BYTES presence { min_fraction: 1 } shape { dim { size: 1 } } }
"""


def image(label: str, seed: int) -> bytes:
    """A PNG of noise, of any brightness and tint, in which the channel of `label` tends to be brighter."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 120, (60, 80, 3)) + random.integers(0, 40) + random.integers(0, 24, 3)
    pixels[..., ("red", "green", "blue").index(label)] += 30
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def decoded(files: Sequence[bytes], size: int = SIZE) -> np.ndarray:
    """What training reads of image files, float32 [n, size, size, 3]."""
    session, given, images = _decoder(size)
    return session.run(images, {given: np.array(files, object)})


@functools.cache
def _decoder(size: int) -> tuple[tf.compat.v1.Session, tf.Tensor, tf.Tensor]:
    """Made once: the graph takes longer than an image."""
    with tf.Graph().as_default() as graph:
        given = tf.compat.v1.placeholder(tf.string, [None])
        images = decoding.decode(given, size)
    return tf.compat.v1.Session(graph=graph), given, images


def raw_example(encoded: bytes, label: str | None = None) -> bytes:
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(encoded)
    if label is not None:
        example.features.feature["label"].bytes_list.value.append(label.encode())
    return example.SerializeToString()


def write_split(artifact: Path, split: str, examples: Iterable[bytes]) -> None:
    folder = artifact / f"Split-{split}"
    folder.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / "data-00000-of-00001")) as writer:
        for example in examples:
            writer.write(example)


def read_split(artifact: Path, split: str) -> list[bytes]:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        dataset = tfrecords.dataset(tfrecords.find(f"{artifact}/Split-{split}/*")).batch(10_000)
        return list(session.run(tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()))


def write_raw_examples(artifact: Path, train: int, evaluate: int) -> None:
    """Writes `train` and `evaluate` images of every class, the classes taking turns."""
    seeds = iter(range(1_000_000))
    for split, count in (("train", train), ("eval", evaluate)):
        write_split(artifact, split, [raw_example(image(c, next(seeds)), c) for _ in range(count) for c in CLASSES])


def run_transform(examples: list[bytes], directory: Path, image_size: int = SIZE, transparent: str = "white") -> None:
    """What TFX's Transform does with `preprocessing_fn`, by the same library, in memory."""
    source = tf_example_record.TFExampleBeamRecord(
        telemetry_descriptors=["test"], physical_format="inmem", schema=text_format.Parse(_SCHEMA, schema_pb2.Schema())
    )
    function = functools.partial(
        preprocessing.preprocessing_fn,
        custom_config={"image_size": image_size, "transparent": transparent, "stretch": None},
    )
    with beam.Pipeline() as pipeline, tft_beam.Context(temp_dir=str(directory / "temporary")):
        batches = pipeline | beam.Create(examples) | source.BeamSource()
        transform = (batches, source.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(function)
        transform | tft_beam.WriteTransformFn(str(directory))


def write_features(
    raw: Path, transform_directory: Path, backbone_directory: Path, cut: str, outputs: Sequence[str], artifact: Path
) -> None:
    """What FeatureExtractor writes: each image's features at the cut."""
    dtype = np.float32 if cut == backbone.POOLED else np.float16
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        serialized = tf.compat.v1.placeholder(tf.string, [None])
        transformed = preprocessing.transform_examples(str(transform_directory), serialized)
        features = backbone.frozen_prefix(transformed["image"], cut, *outputs)
        session.run(tf.compat.v1.tables_initializer())
        backbone.restore(session, str(backbone_directory))
        for split in ("train", "eval"):
            images = read_split(raw, split)
            examples = []
            for i in range(0, len(images), 64):
                fetches = [features, transformed["label_xf"]]
                for value, label in zip(*session.run(fetches, {serialized: images[i : i + 64]}), strict=True):
                    example = tf.train.Example()
                    example.features.feature["features"].bytes_list.value.append(value.astype(dtype).tobytes())
                    example.features.feature["label_xf"].int64_list.value.append(int(label))
                    examples.append(example.SerializeToString())
            write_split(artifact, split, examples)
    shape = features.shape.as_list()[1:]
    describe_features(artifact, cut, tuple(outputs), tuple(shape), np.dtype(dtype).name)


def describe_features(
    artifact: Path, cut: str, outputs: tuple[str, ...], shape: tuple[int, ...], dtype: str = "float32"
) -> None:
    """Writes the description of a features artifact, whose splits hold images as they are."""
    splits = {split: SplitFeatures(UNVARIED, dtype, bfloat16=False) for split in ("train", "eval")}
    FEATURES_FILE.write(artifact, Features(cut, outputs, shape, SIZE, "0", "", None, splits))


def fn_args(
    settings: TrainerConfig, examples: Path, transform: Path, backbone_directory: Path, out: Path
) -> SimpleNamespace:
    """The attributes of TFX's FnArgs that run_fn reads (importing the class takes 16 s)."""
    return SimpleNamespace(
        train_files=[f"{examples}/Split-train/*"],
        eval_files=[f"{examples}/Split-eval/*"],
        transform_graph_path=str(transform),
        base_model=str(backbone_directory),
        model_run_dir=str(out / "run"),
        serving_model_dir=str(out / "Format-Serving"),
        hyperparameters=None,
        working_dir=str(out / "work"),
        train_steps=settings.training.steps,
        custom_config={"trainer": converter.to_json(settings)},
    )
