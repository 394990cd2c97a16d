"""Which settings a search may change, and to what: as lists, as keras-tuner's choices, and back as settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.settings.training import TrainerConfig
from core.settings.tuner import TunerConfig

if TYPE_CHECKING:
    import keras_tuner

_SECTIONS = {"hidden_units": "head", "dropout": "head", "l2": "head", "learning_rate": "training", "output": "backbone"}


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
    """keras-tuner's values, by the names in `declare`, as settings: `{"head.hidden_units": [512, 128], ...}`."""
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
