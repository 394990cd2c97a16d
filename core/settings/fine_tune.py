"""The settings `fine_tune`: which layers of the pre-trained network train."""

from typing import Annotated

import msgspec
from msgspec import Meta

from core.settings.checks import AtLeast0, NotNegative, require


class FineTuneConfig(msgspec.Struct, frozen=True, rename={"from_layer": "from"}):
    """Which layers of the base train: at most one of the first three keys; without them, the base is frozen.

    Attributes:
        from_layer: this layer, or all of this block, and all after it train.
        last_layers: the last N layers train, as in `for layer in base.layers[:-N]: layer.trainable = False`.
        rules: ordered (regular expression, multiplier of the learning rate); the first that matches decides; 0 freezes.
        decay: with `from` or `last_layers`: the multiplier is this to the power of how many blocks a layer's block is
            below the last one, so that what lies deeper moves less.
        l2_sp: times the sum of the squared distances of what trains in the base from its pre-trained values is added
            to the training loss (L2-SP, Li, Grandvalet & Davoine 2018).
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
