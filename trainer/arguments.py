"""TFX's FnArgs, as far as training reads them; importing TFX's own imports all of its components, 16 s."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass
class Inputs:
    """What a training follows from."""

    train_files: list[str]
    eval_files: list[str]
    transform_graph_path: str
    base_model: str
    hyperparameters: dict[str, Any] | None = None
    train_steps: int = 0
    custom_config: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class FnArgs(Inputs):
    """Those, and where the Trainer or the Tuner writes."""

    model_run_dir: str = ""
    serving_model_dir: str = ""
    working_dir: str = ""
