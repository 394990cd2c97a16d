"""The settings `fine_tune`, `head` and `training`: what trains and how; and the config that `run_fn` receives."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from core.image_limits import ImageLimits
from core.settings.abstain import AbstainConfig
from core.settings.augmentation import AugmentationConfig
from core.settings.backbone import BackboneConfig
from core.settings.checks import AtLeast0, AtLeast1, FractionBelow1, NotNegative, Positive, require


class FineTuneConfig(msgspec.Struct, frozen=True, rename={"from_layer": "from"}):
    """Which layers of the base train: give at most one of the first three keys; without them, the base is frozen.

    Attributes:
        from_layer: this layer, or this entire block, and everything after it trains.
        last_layers: the last N layers train, as in `for layer in base.layers[:-N]: layer.trainable = False`.
        rules: ordered (regular expression, multiplier of the learning rate); the first match decides; 0 freezes.
        decay: with `from` or `last_layers`: the multiplier is this to the power of the number of blocks above a layer's
            own, so that deeper layers change less.
        l2_sp: factor of a penalty in the training loss, the sum of squared distances of the base's trainable weights
            from their pre-trained values (L2-SP, Li, Grandvalet & Davoine 2018).
    """

    from_layer: str | None = None
    last_layers: AtLeast0 | None = None
    rules: tuple[tuple[str, float], ...] | None = None
    decay: Annotated[float, Meta(gt=0, le=1)] | None = None
    l2_sp: NotNegative = 0.0

    def __post_init__(self) -> None:
        given = [n for n in ("from_layer", "last_layers", "rules") if getattr(self, n) is not None]
        require(len(given) <= 1, "give only one of from, last_layers and rules")
        require(self.decay is None or given in (["from_layer"], ["last_layers"]), "decay needs from or last_layers")
        require(
            not self.l2_sp or bool(given), "l2_sp needs from, last_layers or rules: else nothing of the base trains"
        )


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """The head on the pooled features: standardization, Dense(relu) layers with dropout, Dense(classes).

    Attributes:
        hidden_units: of each Dense(relu) layer; `[]`: a linear classifier.
        dropout: the fraction of units dropped after each of these layers in training.
        label_smoothing: the fraction of the target probability spread over all classes (Szegedy et al. 2016).
        class_weights: `balanced` weighs an example by the inverse of its class's share of the training images.
        l2: factor of a penalty in the training loss, the sum of the head's squared kernels, as Keras's `L2`.
    """

    hidden_units: tuple[AtLeast1, ...] = (1024,)
    dropout: FractionBelow1 = 0.2
    l2: NotNegative = 0.0
    label_smoothing: FractionBelow1 = 0.0
    class_weights: Literal["balanced"] | None = None


@dataclasses.dataclass(frozen=True)
class LearningRateConfig:
    """The learning rate over the steps. In YAML, a single number is a constant rate.

    Attributes:
        values: for `piecewise`, `values[i]` applies up to step `boundaries[i]`, and `values[-1]` after the last; else
            the one initial rate.
        boundaries: for `piecewise`, in steps.
        schedule: `cosine` falls to `end` along half a wave (Loshchilov & Hutter 2017); `exponential` is multiplied by
            `decay_rate` every `decay_steps`, continuously.
        decay_steps: how long the decay takes; null: from the end of the warm-up to `training.steps`.
        decay_rate: for `exponential`.
        end: for `cosine`.
        warmup_steps: number of first steps over which the rate rises linearly to its value; `cosine` and `exponential`
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
        batch_size: examples per step, on each replica or worker.
        steps: the maximum number of steps.
        head_steps: number of first steps in which only the head trains; the base is frozen, including BatchNorm
            statistics.
        eval_every: steps between evaluations (and checkpoints).
        learning_rate: a number is a constant rate; else the keys below.
        early_stopping: training stops after this many evaluations in a row without a lower eval loss, not counting
            those during `head_steps`; null: it never stops early.
        augmentation: random changes to training images; null: none.
        warm_start: start from the last blessed model, as far as it fits, instead of the pre-trained weights.
        distribution: `mirrored` is synchronous on all GPUs (or CPU devices) of this machine; `parameter_server` is
            asynchronous, on the cluster described by the environment variable TF_CONFIG.
        seed: for the head's initial values, the order of examples, dropout and augmentation.
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


Calibration = Literal["temperature", "none"]


@dataclasses.dataclass(frozen=True)
class TrainerConfig:
    """Everything `run_fn` needs to know, passed in TFX's `custom_config` as JSON. `limits` are the exported model's."""

    backbone: BackboneConfig = BackboneConfig()
    fine_tune: FineTuneConfig = FineTuneConfig()
    head: HeadConfig = HeadConfig()
    training: TrainingConfig = TrainingConfig()
    calibration: Calibration = "temperature"
    abstain: AbstainConfig | None = None
    limits: ImageLimits = ImageLimits()
