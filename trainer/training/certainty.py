"""What the exported model knows about its own limits, measured after training: calibration, novelty and abstention."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from scipy import special, stats

from core.artifacts.training_summary import Abstention, Calibration, NoveltyImages
from trainer.network import abstention as withheld
from trainer.network import backbone, head, novelty
from trainer.training import abstention, inputs, outputs
from trainer.training.calibration import calibrate
from trainer.training.train_loop import Trained

_IMAGES_OF_FEATURES = 4096  # training images to compare with if they need no forward pass
_IMAGES = 512
_IMAGES_A_CLASS, _MOST_IMAGES = 8, 16_384  # if there are many classes


@dataclasses.dataclass(frozen=True)
class Certainty:
    """What was measured; `measured` are the variables of `trainer.network.novelty`."""

    calibration: Calibration | None
    novelty: NoveltyImages
    abstention: Abstention | None
    measured: Mapping[str, np.ndarray]

    @property
    def temperature(self) -> float:
        """The divisor of all logits."""
        return self.calibration.temperature if self.calibration else 1.0

    @property
    def variables(self) -> dict[str, np.ndarray]:
        """Values of the exported network's variables that training does not have."""
        chosen = self.abstention
        thresholds = (chosen.probability, chosen.novelty) if chosen else (0.0, 1.0)
        return {**self.measured, **withheld.values(*thresholds)}


def measure(trained: Trained, checkpoint: str) -> Certainty:
    """Measures the network whose trained variables are in `checkpoint`."""
    model, config = trained.model, trained.model.config
    classes = len(model.classes)
    batch_size = config.training.batch_size
    ready = trained.train.features is not None and trained.train.features.cut == backbone.POOLED
    images = max(_IMAGES_OF_FEATURES if ready else _IMAGES, min(_IMAGES_A_CLASS * classes, _MOST_IMAGES))
    sample = functools.partial(inputs.sample, trained.train, images, batch_size, config.training.seed)
    pooled, labels = outputs.compute(model, checkpoint, sample, lambda pooled: [pooled])
    values = novelty.directions(pooled, labels, classes)

    def wanted(pooled: tf.Tensor) -> list[tf.Tensor]:
        return [head.build(pooled, config.head, classes, None, None)[0], novelty.distance(pooled, classes)]

    evaluated = inputs.evaluation_input(trained.evaluated, batch_size)
    logits, distances, true = outputs.compute(model, checkpoint, evaluated, wanted, values)
    values |= novelty.quantiles(distances)
    calibration = calibrate(logits, true) if config.calibration == "temperature" else None
    certainty = Certainty(calibration, NoveltyImages(len(pooled), len(true)), None, values)
    if config.abstain is None:
        return certainty
    probabilities = special.softmax(logits.astype(np.float64) / certainty.temperature, axis=1)
    novel = stats.rankdata(distances) / (len(distances) + 1)
    right = logits.argmax(axis=1) == true
    chosen = abstention.choose(config.abstain, probabilities.max(axis=1), right, novel)
    return dataclasses.replace(certainty, abstention=chosen)
