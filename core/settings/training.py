"""The settings `training`: how the Estimator trains; and all that `run_fn` is given."""

from __future__ import annotations

import dataclasses
from typing import Literal

from core.image_limits import ImageLimits
from core.settings.augmentation import AugmentationConfig
from core.settings.backbone import BackboneConfig
from core.settings.checks import AtLeast0, AtLeast1, FractionBelow1, NotNegative, Positive, require
from core.settings.fine_tune import FineTuneConfig
from core.settings.head import HeadConfig


@dataclasses.dataclass(frozen=True)
class LearningRateConfig:
    """The rate over the steps. In YAML, a number alone is a constant rate.

    Attributes:
        values: `piecewise`: `values[i]` up to step `boundaries[i]`, `values[-1]` after the last. Else the one rate to
            start with.
        boundaries: of `piecewise`, in steps.
        schedule: `cosine` falls to `end` in half a wave (Loshchilov & Hutter 2017); `exponential` is multiplied by
            `decay_rate` every `decay_steps`, smoothly.
        decay_steps: how long the fall takes; null: from the end of the warm-up to `training.steps`.
        decay_rate: of `exponential`.
        end: of `cosine`.
        warmup_steps: in the first so many steps the rate rises linearly to what it would be; `cosine` and `exponential`
            begin after them.
    """

    values: tuple[NotNegative, ...] = (1e-3,)
    boundaries: tuple[int, ...] = ()
    schedule: Literal["piecewise", "cosine", "exponential"] = "piecewise"
    decay_steps: AtLeast1 | None = None
    decay_rate: Positive | None = None
    end: NotNegative | None = None
    warmup_steps: AtLeast0 = 0

    def __post_init__(self) -> None:
        require(
            len(self.values) == len(self.boundaries) + 1,
            f"{len(self.boundaries)} boundaries need {len(self.boundaries) + 1} values, not {len(self.values)}",
        )
        require(list(self.boundaries) == sorted(set(self.boundaries)), "boundaries must increase")
        require(self.end is None or self.end <= self.values[0], "end must lie between 0 and the rate it starts with")
        takes = {
            "piecewise": {"boundaries"},
            "cosine": {"decay_steps", "end"},
            "exponential": {"decay_steps", "decay_rate"},
        }
        for name in ("boundaries", "decay_steps", "decay_rate", "end"):
            given = getattr(self, name) not in (None, ())
            require(not given or name in takes[self.schedule], f"{name} means nothing to the schedule {self.schedule}")
        require(self.schedule != "exponential" or self.decay_rate is not None, "exponential needs a decay_rate")

    def starting_at(self, rate: float) -> LearningRateConfig:
        """All rates scaled so that the first is `rate`; constant where the first is 0."""
        first = self.values[0]
        if not first:
            return LearningRateConfig((rate,))
        end = None if self.end is None else self.end * rate / first
        return dataclasses.replace(self, values=tuple(value * rate / first for value in self.values), end=end)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How the Estimator trains.

    Attributes:
        optimizer: the update rule; Adam's and RMSprop's other parameters are TensorFlow's defaults.
        momentum: of `sgd` (null: 0.9) and `rmsprop` (null: 0).
        batch_size: examples a step, on each replica or worker.
        steps: the most steps.
        head_steps: in the first so many steps the base is frozen, BatchNorm's statistics too; only the head trains.
        eval_every: steps between two evaluations (and checkpoints).
        learning_rate: a number is a constant rate; else the keys below.
        early_stopping: evaluations in a row without a lower eval loss after which training stops, those of the first
            `head_steps` not counted; null never stops.
        augmentation: how training images are varied; null: not at all.
        warm_start: start from the last blessed model where it fits, and not from the pre-trained weights.
        distribution: `mirrored`: synchronous on all GPUs (or CPU devices) of this machine; `parameter_server`:
            asynchronous, on the cluster that the environment variable TF_CONFIG describes.
        seed: of whatever is drawn: the head's first values, the order of examples, dropout, augmentation.
    """

    optimizer: Literal["sgd", "adam", "rmsprop"] = "adam"
    momentum: FractionBelow1 | None = None
    batch_size: AtLeast1 = 64
    steps: AtLeast1 = 2000
    head_steps: AtLeast0 = 0
    eval_every: AtLeast1 = 200
    learning_rate: LearningRateConfig = LearningRateConfig()
    early_stopping: AtLeast1 | None = 5
    augmentation: AugmentationConfig | None = None
    warm_start: Literal["latest_blessed"] | None = None
    distribution: Literal["none", "mirrored", "parameter_server"] = "none"
    seed: int = 1

    def __post_init__(self) -> None:
        require(self.momentum is None or self.optimizer != "adam", "adam takes no momentum; sgd and rmsprop do")
        require(
            self.head_steps == 0 or self.distribution != "parameter_server",
            "head_steps needs one process that knows the step; it does not go with distribution: parameter_server",
        )


@dataclasses.dataclass(frozen=True)
class TrainerConfig:
    """All that `run_fn` needs to know; travels in TFX's `custom_config` as JSON. `limits` are the exported model's."""

    backbone: BackboneConfig = BackboneConfig()
    fine_tune: FineTuneConfig = FineTuneConfig()
    head: HeadConfig = HeadConfig()
    training: TrainingConfig = TrainingConfig()
    limits: ImageLimits = ImageLimits()
