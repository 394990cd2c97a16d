"""What an epoch of training costs from the cut on, beside epochs through the complete network: prints a line of JSON.

An epoch as the Trainer has it, input included: stored features are read and decoded; for the complete network, JPEG
photos are read, decoded, resized and scaled by Transform's graph. By the pipeline's own input_fn, model_fn and session,
at 299 pixels; InceptionV3 and the stored features are random, for the cost does not depend on the values.
"""

from __future__ import annotations

import functools
import io
import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform.beam as tft_beam
from PIL import Image
from tensorflow_transform.tf_metadata.dataset_metadata import DatasetMetadata

from core.artifacts.features import FEATURES, FEATURES_FILE, LABEL, UNVARIED, Features, SplitFeatures
from core.settings.backbone import BackboneConfig
from core.settings.training import FineTuneConfig, TrainerConfig, TrainingConfig
from trainer import preprocessing
from trainer.network import backbone, head
from trainer.network.model import Model, make_model_fn
from trainer.training import distribution, inputs
from trainer.weights.importing import import_weights

SIZE, PHOTO, PHOTOS, BATCH = 299, (375, 500), 48, 16
STEPS = PHOTOS // BATCH  # of an epoch
CLASSES = ("blue", "green", "red")

EVERYTHING = FineTuneConfig(rules=((".*", 1.0),))
CASES = {
    "nothing": ("pooled", FineTuneConfig()),
    "from mixed10": ("mixed9", FineTuneConfig(from_layer="mixed10")),
    "from mixed9": ("mixed8", FineTuneConfig(from_layer="mixed9")),
}
"""What trains: the cut its features are read at, and the setting."""


class Clock(tf.estimator.SessionRunHook):
    """CPU seconds at the end of each step."""

    def begin(self) -> None:
        """See SessionRunHook."""
        self.ends: list[float] = []

    def after_run(self, *_: object) -> None:
        """See SessionRunHook."""
        self.ends.append(time.process_time())


def photo(seed: int) -> bytes:
    """A JPEG as large as photos on the web: soft shapes, and some grain."""
    random = np.random.default_rng(seed)
    shapes = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).resize(
        PHOTO[::-1], Image.Resampling.BICUBIC
    )
    grain = random.normal(0, 6, (*PHOTO, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(shapes) + grain, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_records(split: Path, records: Iterable[dict[str, bytes | int]]) -> None:
    """Writes tf.Examples of bytes and of numbers."""
    split.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(split / "data-00000-of-00001")) as writer:
        for record in records:
            example = tf.train.Example()
            for name, value in record.items():
                feature = example.features.feature[name]
                (feature.bytes_list if isinstance(value, bytes) else feature.int64_list).value.append(value)
            writer.write(example.SerializeToString())


def run_transform(photos: Sequence[dict[str, bytes]], folder: Path) -> None:
    """What Transform does with `preprocessing_fn`."""
    metadata = DatasetMetadata.from_feature_spec({name: tf.io.FixedLenFeature([1], tf.string) for name in photos[0]})
    function = functools.partial(
        preprocessing.preprocessing_fn, custom_config={"image_size": SIZE, "transparent": "white", "stretch": None}
    )
    with beam.Pipeline() as pipeline, tft_beam.Context(temp_dir=str(folder / "temporary")):
        rows = pipeline | beam.Create([{name: [value] for name, value in row.items()} for row in photos])
        transform = (rows, metadata) | tft_beam.AnalyzeDataset(function)
        transform | tft_beam.WriteTransformFn(str(folder / "transform"))


def write_data(folder: Path) -> dict[str | None, Path]:
    """Raw photos, Transform's graph, a base, and random features as FeatureExtractor writes them.

    Returns:
        Folders of training data, by the cut; None for raw photos.
    """
    raw = [{preprocessing.ENCODED: photo(i), preprocessing.RAW_LABEL: CLASSES[i % 3].encode()} for i in range(PHOTOS)]
    artifacts: dict[str | None, Path] = {None: folder / "raw"}
    write_records(folder / "raw" / "Split-train", raw)
    run_transform(raw[:3], folder)
    import_weights(BackboneConfig(weights="random"), str(folder / "base"))
    random = np.random.default_rng(1)
    for cut, _ in CASES.values():
        artifacts[cut] = folder / cut
        dtype = np.float32 if cut == backbone.POOLED else np.float16
        with tf.Graph().as_default():
            images = tf.compat.v1.placeholder(tf.float32, [None, SIZE, SIZE, 3])
            shape = backbone.frozen_prefix(images, cut, "mixed10").shape.as_list()[1:]
        features = ({FEATURES: random.random(shape).astype(dtype).tobytes(), LABEL: i % 3} for i in range(PHOTOS))
        write_records(artifacts[cut] / "Split-train", features)
        splits = {"train": SplitFeatures(UNVARIED, np.dtype(dtype).name, bfloat16=False)}
        described = Features(cut, ("mixed10",), tuple(shape), SIZE, "", "", None, splits)
        FEATURES_FILE.write(artifacts[cut], described)
    return artifacts


def epoch(cut: str | None, fine_tune: FineTuneConfig, examples: Path, folder: Path) -> float:
    """CPU seconds of an epoch on features at the cut, or on photos; after a step that is not measured."""
    training = TrainingConfig(batch_size=BATCH, eval_every=10 * STEPS)
    config = TrainerConfig(BackboneConfig(weights="random"), fine_tune, training=training)
    moments = head.Moments(np.zeros(2048, np.float32), np.ones(2048, np.float32))
    model = Model(config, CLASSES, cut, str(folder / "base"), moments)
    source = inputs.find([f"{examples}/Split-train/*"], str(folder / "transform"))
    clock = Clock()
    with tempfile.TemporaryDirectory() as model_dir:
        run_config = distribution.run_config(training, model_dir)
        estimator = tf.estimator.Estimator(make_model_fn(model), config=run_config)
        estimator.train(inputs.training_input(source, BATCH, training.seed), hooks=[clock], steps=1 + STEPS)
    return clock.ends[-1] - clock.ends[0]


def main() -> None:
    """Prints the CPU seconds of each epoch: `<what trains>, features` and `<what trains>, photos`."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        artifacts = write_data(folder)
        found = {"everything, photos": epoch(None, EVERYTHING, artifacts[None], folder)}
        for name, (cut, fine_tune) in CASES.items():
            found[f"{name}, features"] = epoch(cut, fine_tune, artifacts[cut], folder)
            found[f"{name}, photos"] = epoch(None, fine_tune, artifacts[None], folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
