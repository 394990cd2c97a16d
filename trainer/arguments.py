"""The part of TFX's FnArgs that training reads; importing TFX's own would import all of its components, 16 s."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass
class Inputs:
    """The arguments that determine the result of a training."""

    train_files: list[str]
    eval_files: list[str]
    transform_graph_path: str
    base_model: str
    hyperparameters: dict[str, Any] | None = None
    train_steps: int = 0
    custom_config: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class FnArgs(Inputs):
    """`Inputs`, and where the Trainer or the Tuner writes."""

    model_run_dir: str = ""
    serving_model_dir: str = ""
    working_dir: str = ""
