"""What the Tuner writes, through TFX: the best values it found, as settings, and every trial."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from core import atomic_io
from core.artifacts.base import Artifact
from core.settings.converter import to_dict
from core.settings.training import LearningRateConfig, TrainerConfig

BEST = Artifact("Tuner", "best_hyperparameters")
TRIALS = Artifact("Tuner", "tuner_results")

_SECTIONS = {"hidden_units": "head", "dropout": "head", "l2": "head", "learning_rate": "training", "output": "backbone"}


def read_best(uri: str) -> dict[str, Any]:
    """The best values, as settings; see `as_settings`."""
    return as_settings(json.loads(atomic_io.read_text(f"{uri.rstrip('/')}/best_hyperparameters.txt"))["values"])


def read_trials(uri: str) -> list[dict[str, Any]]:
    """The trials, best first: `score` and the values tried."""
    return json.loads(atomic_io.read_text(f"{uri.rstrip('/')}/tuner_results.json"))


def as_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """keras-tuner's values of `trainer.tuning.choices` as settings: `{"head.hidden_units": [512, 128], ...}`."""
    return {
        f"{_SECTIONS[name]}.{name}": [int(units) for units in value.split("-") if units]
        if name == "hidden_units"
        else value
        for name, value in values.items()
    }


def apply(values: Mapping[str, Any], settings: TrainerConfig) -> TrainerConfig:
    """The settings with the chosen values; a chosen rate becomes the first of the schedule, which keeps its shape."""
    for path, value in as_settings(values).items():
        section, name = path.split(".")
        if name == "learning_rate":
            value = settings.training.learning_rate.starting_at(value)
        elif name == "hidden_units":
            value = tuple(value)
        changed = dataclasses.replace(getattr(settings, section), **{name: value})
        settings = dataclasses.replace(settings, **{section: changed})
    return settings


def chosen(values: Mapping[str, Any], settings: TrainerConfig) -> dict[str, Any]:
    """The values as settings that give the same training without a search; `settings` are those of `apply`.

    The rate is written as the schedule that starts with it, unless it is constant.
    """
    found, rate = as_settings(values), settings.training.learning_rate
    if "training.learning_rate" in found and rate != LearningRateConfig(rate.values[:1]):
        given = ((field.name, getattr(rate, field.name)) for field in dataclasses.fields(rate))
        defaults = LearningRateConfig()
        found["training.learning_rate"] = {name: to_dict(v) for name, v in given if v != getattr(defaults, name)}
    return found
