"""The settings `tuner`: what the search for better settings tries."""

import dataclasses
from typing import Literal

from core.settings.backbone import Block
from core.settings.checks import AtLeast1, FractionBelow1, NotNegative, Positive, require


@dataclasses.dataclass(frozen=True)
class TunerConfig:
    """What the search for better settings tries: every list holds the candidate values of one setting.

    Attributes:
        trials: how many combinations are trained.
        algorithm: `bayesian` searches where earlier trials did well; `random` draws at random.
        steps: the maximum number of steps of a trial; null: `training.steps`.
        hidden_units: for `head.hidden_units`.
        dropout: for `head.dropout`.
        l2: for `head.l2`.
        learning_rate: the initial rate of the schedule; its other rates keep their proportions.
        output: for `backbone.output`, if the base is entirely frozen; empty: not searched.
    """

    trials: AtLeast1 = 20
    algorithm: Literal["bayesian", "random"] = "bayesian"
    steps: AtLeast1 | None = None
    hidden_units: tuple[tuple[AtLeast1, ...], ...] = ((), (256,), (1024,))
    dropout: tuple[FractionBelow1, ...] = (0.0, 0.2, 0.5)
    l2: tuple[NotNegative, ...] = (0.0, 0.001, 0.03, 0.3)
    learning_rate: tuple[Positive, ...] = (1e-4, 3e-4, 1e-3, 3e-3)
    output: tuple[Block, ...] = ()

    def __post_init__(self) -> None:
        for name in ("hidden_units", "dropout", "l2", "learning_rate"):
            values = getattr(self, name)
            require(len(values) > 0, f"{name} must name at least one value")
            require(len(set(values)) == len(values), f"{name} names a value twice")
