"""Which settings a search may change, and to what: as lists, as keras-tuner's choices, and back as settings."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from core.settings.training import BackboneConfig, HeadConfig, TrainerConfig, require

if TYPE_CHECKING:
    import keras_tuner

_SECTIONS = {"hidden_units": "head", "dropout": "head", "l2": "head", "learning_rate": "training", "output": "backbone"}


@dataclasses.dataclass(frozen=True)
class TunerConfig:
    """What the search for better settings tries: every list holds the values that one setting may take.

    Attributes:
        trials: how many combinations are trained.
        algorithm: `bayesian` proposes where earlier trials did well; `random` draws.
        steps: the most steps of one trial; null: as many as `training.steps`.
        hidden_units: of `head.hidden_units`.
        dropout: of `head.dropout`.
        l2: of `head.l2`.
        learning_rate: the rate a schedule starts with; the rest of the schedule keeps its proportions.
        output: of `backbone.output`, for a base that is frozen whole; empty: not searched.
    """

    trials: int = 20
    algorithm: Literal["bayesian", "random"] = "bayesian"
    steps: int | None = None
    hidden_units: tuple[tuple[int, ...], ...] = ((), (256,), (1024,))
    dropout: tuple[float, ...] = (0.0, 0.2, 0.5)
    l2: tuple[float, ...] = (0.0, 0.001, 0.03, 0.3)
    learning_rate: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3)
    output: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(self.trials > 0, "trials must be positive")
        require(self.steps is None or self.steps > 0, "steps must be positive or null")
        for name in ("hidden_units", "dropout", "l2", "learning_rate"):
            values = getattr(self, name)
            require(len(values) > 0, f"{name} must name at least one value")
            require(len(set(values)) == len(values), f"{name} names a value twice")
        require(all(rate > 0 for rate in self.learning_rate), "learning_rate must hold positive numbers")
        for units, dropout, l2 in itertools.product(self.hidden_units, self.dropout, self.l2):
            HeadConfig(hidden_units=units, dropout=dropout, l2=l2)
        for output in self.output:
            BackboneConfig(output=output)


def declare(space: TunerConfig) -> keras_tuner.HyperParameters:
    """Each list of the config as a choice; the hidden units are text, `512-128`, since a choice is one scalar."""
    import keras_tuner  # brings all of Keras; the Trainer only reads what was found

    choices = keras_tuner.HyperParameters()
    choices.Choice("hidden_units", ["-".join(map(str, units)) for units in space.hidden_units], ordered=False)
    for name in ("dropout", "l2", "learning_rate"):
        choices.Choice(name, sorted(getattr(space, name)), ordered=True)
    if space.output:
        choices.Choice("output", list(space.output), ordered=False)
    return choices


def as_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """What was chosen, by path of the setting: `{"head.hidden_units": [512, 128], ...}`.

    Args:
        values: keras-tuner's values, by the names in `declare`.
    """
    return {
        f"{_SECTIONS[name]}.{name}": [int(units) for units in value.split("-") if units]
        if name == "hidden_units"
        else value
        for name, value in values.items()
    }


def apply(values: Mapping[str, Any], settings: TrainerConfig) -> TrainerConfig:
    """The settings with what was chosen put in; a chosen rate is the first of the schedule, which keeps its shape."""
    for path, value in as_settings(values).items():
        section, name = path.split(".")
        if name == "learning_rate":
            value = settings.training.learning_rate.starting_at(value)
        elif name == "hidden_units":
            value = tuple(value)
        changed = dataclasses.replace(getattr(settings, section), **{name: value})
        settings = dataclasses.replace(settings, **{section: changed})
    return settings
