"""The settings `tuner`: what the search for better settings tries."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Literal

from core.settings.training import BackboneConfig, HeadConfig, require


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
