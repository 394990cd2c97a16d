"""`training_summary.json`: what was trained, from what, how far, and how well; for the report and for people."""

from __future__ import annotations

import dataclasses
from typing import Literal

from core.artifacts.backbone import BackboneRecord
from core.artifacts.base import Artifact, JsonFile

MODEL_RUN = Artifact("Trainer", "model_run")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What the eval split said of the network after a step; `loss` is None where it is not finite."""

    step: int
    loss: float | None
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How the probabilities were calibrated on the eval split.

    Attributes:
        temperature: that all logits are divided by; 1 where no other was better.
        cross_entropy: before; `calibrated` is that of images which the temperature was not fitted on.
    """

    temperature: float
    images: int
    cross_entropy: float
    calibrated: float


@dataclasses.dataclass(frozen=True)
class Abstention:
    """When the model gives no label, and how often it did on the eval split, which this was chosen on.

    Attributes:
        probability: below it, the label is withheld.
        novelty: above it likewise; 1: it never is for that.
        images: of the eval split; `labeled` is how many of them get a label, `right` how many of these the right one.
    """

    probability: float
    novelty: float
    images: int
    labeled: int
    right: int


@dataclasses.dataclass(frozen=True)
class NoveltyImages:
    """How many images novelty is measured from: those of the train split that are compared with, and the eval split."""

    train: int
    eval: int


@dataclasses.dataclass(frozen=True)
class LayerRange:
    """What a rule decided for neighboring layers, from the first to the last.

    Attributes:
        multiplier: of the learning rate; 0: frozen.
        rule: the pattern that decided, or the shorthand it was expanded from.
        parameters: trainable numbers; BatchNorm statistics not counted.
    """

    first: str
    last: str
    layers: int
    multiplier: float
    rule: str
    parameters: int


@dataclasses.dataclass(frozen=True)
class Parameters:
    """How many numbers the network has; `trained` includes the `head`."""

    trained: int
    head: int
    frozen: int


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """What a training began with of an earlier model.

    Attributes:
        model: the earlier model's URI.
        head: None if nothing of the model was taken.
        base_layers: how many layers of the base began with the model's values instead of the pre-trained ones.
        why_not: why nothing of the model was taken, or why the head was not.
        checkpoint: prefix of a checkpoint of the variables to begin with; None if there are none.
    """

    model: str
    head: Literal["kept", "reordered", "rebuilt"] | None
    base_layers: int
    why_not: str | None
    checkpoint: str | None


@dataclasses.dataclass(frozen=True)
class TrainingSummary:
    """What a training did.

    Attributes:
        steps: done in all, with those before a restart; at most `max_steps`.
        seconds: that the last process took.
        best: the evaluation whose weights are exported.
        calibration: None where it was not asked for, or the eval split is too small.
        novelty: what the model's novelty is measured from.
        abstention: None where the model always gives a label.
        classes: names, in the order of the model's outputs.
        class_weights: a factor of the loss for each class; None: all 1.
        cut: where features entered the network; None: it was fed images.
        rules: what `fine_tune` decided, from the first layer to the last.
        trained_layers: the layers that trained, with the multipliers of their rates.
        notes: what the user should know, in sentences.
    """

    steps: int
    max_steps: int
    stopped_early: bool
    seconds: float
    best: Evaluation
    evaluations: list[Evaluation]
    calibration: Calibration | None
    novelty: NoveltyImages
    abstention: Abstention | None
    classes: list[str]
    class_weights: list[float] | None
    cut: str | None
    rules: list[LayerRange]
    trained_layers: dict[str, float]
    parameters: Parameters
    backbone: BackboneRecord
    warm_start: WarmStart | None
    notes: list[str]


SUMMARY = JsonFile("training_summary.json", TrainingSummary)
"""Lies in the artifact; only of a training that came to its end."""
