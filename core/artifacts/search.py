"""What the Tuner leaves: the best values that it found, and every trial."""

from __future__ import annotations

import json
from typing import Any

from core import atomic_io
from core.artifacts.base import Artifact

BEST = Artifact("Tuner", "best_hyperparameters")
TRIALS = Artifact("Tuner", "tuner_results")


def read_best(uri: str) -> dict[str, Any]:
    """The best values, by the names in `trainer.training.search_space`; TFX writes the file."""
    return json.loads(atomic_io.read_text(f"{uri.rstrip('/')}/best_hyperparameters.txt"))["values"]


def read_trials(uri: str) -> list[dict[str, Any]]:
    """The trials, the best first: `score` and the values tried; TFX writes the file."""
    return json.loads(atomic_io.read_text(f"{uri.rstrip('/')}/tuner_results.json"))
