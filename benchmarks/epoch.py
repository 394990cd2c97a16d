"""What a training step costs from the cut on, beside one through the whole network with the same layers frozen.

    .venv/bin/python benchmarks/epoch.py

Both train mixed9 and mixed10 of a random InceptionV3 (what it costs does not depend on the values of the weights) at
299 pixels, by the model_fn of the pipeline. CPU seconds of all cores, several rounds in turn.
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

BAR = 0.25
BATCH, ROUNDS, WARM_UP, STEPS = 16, 3, 2, 6


class Clock(tf.estimator.SessionRunHook):
    """CPU seconds of each step."""

    def begin(self) -> None:
        """See SessionRunHook."""
        self.ends = [time.process_time()]

    def after_run(self, *_: object) -> None:
        """See SessionRunHook."""
        self.ends.append(time.process_time())


def step(cut: str | None, directory: str) -> float:
    """CPU seconds of a training step fed with maps at the cut, or with images."""
    config = TrainerConfig(
        BackboneConfig(weights="random"), FineTuneConfig(from_layer="mixed9"), HeadConfig(), TrainingConfig()
    )
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
    with tempfile.TemporaryDirectory() as directory:
        backbone.import_weights(BackboneConfig(weights="random"), directory)
        rounds = [(step("mixed8", directory), step(None, directory)) for _ in range(ROUNDS)]
    ratios = [cut / whole for cut, whole in rounds]
    for (cut, whole), ratio in zip(rounds, ratios, strict=True):
        print(f"a step of {BATCH} images: {cut:.2f} CPU s from the cut, {whole:.2f} CPU s whole: {ratio:.3f}")
    print(f"median ratio {statistics.median(ratios):.3f}, bar {BAR}")
    return int(statistics.median(ratios) > BAR)


if __name__ == "__main__":
    sys.exit(main())
