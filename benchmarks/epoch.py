"""What a training step costs from the cut on, beside steps through the whole network.

    .venv/bin/python benchmarks/epoch.py

At the cut mixed9 and mixed10 train, on maps computed before; the whole network is fed images and trains the same
layers, or all. A random InceptionV3 at 299 pixels (what it costs does not depend on the weights), by the pipeline's own
model_fn. CPU seconds of all cores, several rounds in turn. Exits with 1 if a ratio is over its bar.
"""

import statistics
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf

from trainer import backbone, head
from trainer.config import BackboneConfig, FineTuneConfig, HeadConfig, TrainerConfig, TrainingConfig
from trainer.inputs import FEATURES
from trainer.model import Model, make_model_fn
from trainer.preprocessing import IMAGE

BARS = {"with the same layers frozen": 0.4, "with none frozen": 0.25}
BATCH, ROUNDS, WARM_UP, STEPS = 16, 3, 2, 6


class Clock(tf.estimator.SessionRunHook):
    """CPU seconds of each step."""

    def begin(self) -> None:
        """See SessionRunHook."""
        self.ends = [time.process_time()]

    def after_run(self, *_: object) -> None:
        """See SessionRunHook."""
        self.ends.append(time.process_time())


def step(cut: str | None, fine_tune: FineTuneConfig, directory: str) -> float:
    """CPU seconds of a training step fed with maps at the cut, or with images."""
    config = TrainerConfig(BackboneConfig(weights="random"), fine_tune, HeadConfig(), TrainingConfig())
    moments = head.Moments(np.zeros(2048, np.float32), np.ones(2048, np.float32))
    model = Model(config, classes=("a", "b"), cut=cut, backbone_directory=directory, moments=moments)
    name, shape = (IMAGE, (299, 299, 3)) if cut is None else (FEATURES, (8, 8, 1280))

    def input_fn() -> tf.data.Dataset:
        batch = tf.random.stateless_uniform((BATCH, *shape), seed=(1, 2))
        return tf.data.Dataset.from_tensors(({name: batch}, tf.range(BATCH, dtype=tf.int64) % 2)).cache().repeat()

    clock = Clock()
    with tempfile.TemporaryDirectory() as model_dir:
        estimator = tf.estimator.Estimator(make_model_fn(model), model_dir)
        estimator.train(input_fn, hooks=[clock], steps=WARM_UP + STEPS)
    return statistics.median(np.diff(clock.ends)[WARM_UP:])


def main() -> int:
    """Measures, prints, and returns the exit code."""
    suffix, everything = FineTuneConfig(from_layer="mixed9"), FineTuneConfig(rules=((".*", 1.0),))
    whole = dict(zip(BARS, (suffix, everything), strict=True))
    ratios: dict[str, list[float]] = {name: [] for name in BARS}
    with tempfile.TemporaryDirectory() as directory:
        backbone.import_weights(BackboneConfig(weights="random"), directory)
        for _ in range(ROUNDS):
            cut = step("mixed8", suffix, directory)
            print(f"a step of {BATCH} images: {cut:.2f} CPU s from the cut", end="")
            for name, fine_tune in whole.items():
                seconds = step(None, fine_tune, directory)
                ratios[name].append(cut / seconds)
                print(f"; {seconds:.2f} CPU s through the whole network {name}", end="")
            print()
    medians = {name: statistics.median(values) for name, values in ratios.items()}
    for name, ratio in medians.items():
        print(f"beside the whole network {name}: {ratio:.2f}, bar {BARS[name]}")
    return int(any(ratio > BARS[name] for name, ratio in medians.items()))


if __name__ == "__main__":
    sys.exit(main())
