"""What the Trainer and the FeatureExtractor are told: frozen, typed, and checked when they are made."""

from __future__ import annotations

import dataclasses
from typing import Literal

from core.image_limits import ImageLimits

BLOCKS = tuple(f"mixed{i}" for i in range(11))
"""The outputs of InceptionV3's blocks, in order: the places where the network can be cut."""

MIN_IMAGE_SIZE = 75
"""Pixels; InceptionV3 without its top refuses smaller images."""


def require(condition: bool, message: str) -> None:
    """Raises ValueError with the message, which is for the user, where the condition does not hold."""
    if not condition:
        raise ValueError(message)


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """The pre-trained network.

    Attributes:
        weights: `imagenet`, `random`, or the path or TF-Hub handle of any of what docs/fine-tuning.md lists.
        if_unreachable: what to do when `imagenet` or a TF-Hub handle can be neither downloaded nor found in its cache.
        image_size: side of the square the images are resized to, in pixels.
        output: the block whose pooled output the head sees.
    """

    weights: str = "imagenet"
    if_unreachable: Literal["error", "random"] = "error"
    image_size: int = 299
    output: str = "mixed10"

    def __post_init__(self) -> None:
        require(
            self.image_size >= MIN_IMAGE_SIZE,
            f"image_size is {self.image_size}; InceptionV3 needs at least {MIN_IMAGE_SIZE} pixels",
        )
        require(self.output in BLOCKS, f"output is {self.output!r}; it must be one of {', '.join(BLOCKS)}")


@dataclasses.dataclass(frozen=True)
class FineTuneConfig:
    """Which layers of the base train: at most one of the three; none of them freezes the whole base.

    Attributes:
        from_layer: `from` in YAML: this layer, or all of this block, and all after it train.
        last_layers: the last N layers train, as in `for layer in base.layers[:-N]: layer.trainable = False`.
        rules: ordered (regular expression, multiplier of the learning rate); the first that matches decides; 0 freezes.
        decay: with `from` or `last_layers`: the multiplier is this to the power of how many blocks a layer's block is
            below the last one, so that what lies deeper moves less.
        l2_sp: times the sum of the squared distances of what trains in the base from its pre-trained values is added
            to the training loss (L2-SP, Li, Grandvalet & Davoine 2018).
    """

    from_layer: str | None = None
    last_layers: int | None = None
    rules: tuple[tuple[str, float], ...] | None = None
    decay: float | None = None
    l2_sp: float = 0.0

    def __post_init__(self) -> None:
        given = [n for n in ("from_layer", "last_layers", "rules") if getattr(self, n) is not None]
        require(len(given) <= 1, "give only one of from, last_layers and rules")
        require(self.last_layers is None or self.last_layers >= 0, "last_layers must not be negative")
        require(self.decay is None or 0 < self.decay <= 1, f"decay is {self.decay}; it must be above 0 and at most 1")
        require(self.decay is None or given in (["from_layer"], ["last_layers"]), "decay needs from or last_layers")
        require(self.l2_sp >= 0, f"l2_sp is {self.l2_sp}; it must not be negative")
        require(
            not self.l2_sp or bool(given), "l2_sp needs from, last_layers or rules: else nothing of the base trains"
        )


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """What sits on the pooled features: standardisation, Dense(relu) layers with dropout, Dense(classes).

    Attributes:
        hidden_units: of each Dense(relu) layer; `[]`: a linear classifier.
        dropout: the part of the units that is dropped after each of these layers in training.
        label_smoothing: the part of the target probability that is spread over all classes (Szegedy et al. 2016).
        class_weights: `balanced` weighs an example by the inverse of its class's share of the training images.
        l2: times the sum of the squared kernels of the head is added to the training loss, as Keras's `L2` does.
    """

    hidden_units: tuple[int, ...] = (1024,)
    dropout: float = 0.2
    l2: float = 0.0
    label_smoothing: float = 0.0
    class_weights: Literal["balanced"] | None = None

    def __post_init__(self) -> None:
        require(all(u > 0 for u in self.hidden_units), "hidden_units must be positive")
        require(0 <= self.dropout < 1, f"dropout is {self.dropout}; it must be in [0, 1)")
        require(self.l2 >= 0, f"l2 is {self.l2}; it must not be negative")
        require(0 <= self.label_smoothing < 1, f"label_smoothing is {self.label_smoothing}; it must be in [0, 1)")


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

    values: tuple[float, ...] = (1e-3,)
    boundaries: tuple[int, ...] = ()
    schedule: Literal["piecewise", "cosine", "exponential"] = "piecewise"
    decay_steps: int | None = None
    decay_rate: float | None = None
    end: float | None = None
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        require(
            len(self.values) == len(self.boundaries) + 1,
            f"{len(self.boundaries)} boundaries need {len(self.boundaries) + 1} values, not {len(self.values)}",
        )
        require(list(self.boundaries) == sorted(set(self.boundaries)), "boundaries must increase")
        require(all(v >= 0 for v in self.values), "values must not be negative")
        require(self.warmup_steps >= 0, "warmup_steps must not be negative")
        require(self.decay_steps is None or self.decay_steps > 0, "decay_steps must be positive")
        require(self.decay_rate is None or self.decay_rate > 0, "decay_rate must be positive")
        require(
            self.end is None or 0 <= self.end <= self.values[0], "end must lie between 0 and the rate it starts with"
        )
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
class AugmentationConfig:
    """How training images are varied; evaluation and serving see them as they are.

    Attributes:
        flip: mirror left and right, half of the time.
        crop: cut away up to this part of the sides' length, anywhere, and resize what is left.
        color: multiply each of red, green and blue by up to this part more or less.
        brightness: add up to this part of the range from black to white, or take it away.
        cutout: grey a square whose side is this part of the image's.
        views: compute so many variants of each training image once, and cache their features; training then draws one
            of them each time. null: images are read live and varied anew each time, through the whole network.
    """

    flip: bool = False
    crop: float = 0.0
    color: float = 0.0
    brightness: float = 0.0
    cutout: float = 0.0
    views: int | None = None

    def __post_init__(self) -> None:
        for name in ("crop", "color", "brightness", "cutout"):
            value = getattr(self, name)
            require(0 <= value < 1, f"augmentation.{name} is {value}; it is a part, from 0 to less than 1")
        require(self.views is None or 1 <= self.views <= 100, "augmentation.views must be from 1 to 100, or null")
        require(
            self.flip or any((self.crop, self.color, self.brightness, self.cutout)),
            "augmentation varies nothing; give flip, crop, color, brightness or cutout, or null for none",
        )


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
    momentum: float | None = None
    batch_size: int = 64
    steps: int = 2000
    head_steps: int = 0
    eval_every: int = 200
    learning_rate: LearningRateConfig = LearningRateConfig()
    early_stopping: int | None = 5
    augmentation: AugmentationConfig | None = None
    warm_start: Literal["latest_blessed"] | None = None
    distribution: Literal["none", "mirrored", "parameter_server"] = "none"
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "eval_every"):
            require(getattr(self, name) > 0, f"{name} must be positive")
        require(self.head_steps >= 0, "head_steps must not be negative")
        require(self.early_stopping is None or self.early_stopping > 0, "early_stopping must be positive or null")
        require(self.momentum is None or 0 <= self.momentum < 1, f"momentum is {self.momentum}; it must be in [0, 1)")
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
