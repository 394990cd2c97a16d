"""`training_summary.json`: what was trained, from which weights, for how long, and how well."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from core.artifacts.backbone import BackboneRecord
from core.artifacts.base import Artifact, JsonFile

MODEL_RUN = Artifact("Trainer", "model_run")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics on the eval split after a step; `loss` is None if it is not finite."""

    step: int
    loss: float | None
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How the probabilities were calibrated on the eval split.

    Attributes:
        temperature: divisor of all logits; 1 if no other value was better.
        cross_entropy: before calibration; `calibrated` is after it, on images the temperature was not fitted on.
    """

    temperature: float
    images: int
    cross_entropy: float
    calibrated: float


@dataclasses.dataclass(frozen=True)
class Abstention:
    """When the model withholds the label, and how often it did on the eval split, which the thresholds were chosen on.

    Attributes:
        probability: below it, the label is withheld.
        novelty: above it, the label is withheld; 1 means never.
        images: of the eval split; `labeled` of them get a label, `right` of these the right one.
        not_shown: that these do not show the precision that is wanted, and what to do; None if they do.
    """

    probability: float
    novelty: float
    images: int
    labeled: int
    right: int
    not_shown: str | None = None


@dataclasses.dataclass(frozen=True)
class NoveltyImages:
    """How many train images novelty compares with, and how many eval images calibrate it."""

    train: int
    eval: int


@dataclasses.dataclass(frozen=True)
class LayerRange:
    """What a rule decided for a run of layers, from the first to the last.

    Attributes:
        multiplier: of the learning rate; 0 means frozen.
        rule: the pattern that decided, or the shorthand it was expanded from.
        parameters: number of trainable parameters, without BatchNorm statistics.
    """

    first: str
    last: str
    layers: int
    multiplier: float
    rule: str
    parameters: int


@dataclasses.dataclass(frozen=True)
class Parameters:
    """How many parameters the network has; `trained` includes the `head`."""

    trained: int
    head: int
    frozen: int


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """What a training took over from an earlier model.

    Attributes:
        model: the earlier model's URI.
        head: None if nothing was taken over.
        base_layers: how many layers of the base began with the model's values instead of the pre-trained ones.
        why_not: why nothing was taken over, or why the head was not.
        checkpoint: prefix of a checkpoint of the variables taken over; None if there are none.
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
        steps: total number of steps, including those before a restart; at most `max_steps`.
        seconds: how long the last process took.
        best: the evaluation whose weights are exported.
        calibration: None if it was not requested or the eval split is too small.
        novelty: the images that the model's novelty is computed from.
        abstention: None if the model always gives a label.
        classes: names, in the order of the model's outputs.
        class_weights: a factor of the loss for each class; None if all are 1.
        cut: where features entered the network; None if it was fed images.
        rules: what `fine_tune` decided, from the first layer to the last.
        trained_layers: the layers that trained, with the multipliers of their rates.
        notes: sentences that the user should know.
        chosen: what the Tuner chose, by the paths of the settings; None without a search.
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
    chosen: dict[str, Any] | None = None


SUMMARY = JsonFile("training_summary.json", TrainingSummary)
"""In the artifact; exists only if the training completed."""
