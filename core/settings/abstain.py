"""The settings `abstain`: when the exported model gives an image no label."""

import dataclasses
import math
from typing import Annotated

from msgspec import Meta

from core.settings.checks import Fraction, require

_Inside = Annotated[float, Meta(gt=0, lt=1)]


@dataclasses.dataclass(frozen=True)
class AbstainConfig:
    """When the model withholds the label and says why; it still gives probabilities. docs/unknown.md explains the
    choice.

    Attributes:
        precision: the fraction of the given labels that should be right; the threshold on the probability is the lowest
            that reaches it on the eval split.
        probability: that threshold itself, instead of `precision`; a less probable label is withheld.
        novelty: an image that is more novel than this fraction of the eval images gets no label, so 0.99 withholds one
            label in a hundred for images like those. null: novelty withholds none.
    """

    precision: _Inside | None = None
    probability: Fraction | None = None
    novelty: _Inside | None = 0.99

    def __post_init__(self) -> None:
        require(self.precision is None or self.probability is None, "give only one of precision and probability")
        require(
            not (self.precision is self.probability is self.novelty is None),
            "nothing would ever be withheld: give precision, probability or novelty, or leave abstain out",
        )

    @property
    def least_images(self) -> int:
        """How many images the eval split must have to show the precision, even if all their labels are right.

        Of n labels of which r are right, (r + 1/2) / (n + 1) must reach it: docs/unknown.md.
        """
        if self.precision is None:
            return 0
        return math.ceil(round((self.precision - 0.5) / (1 - self.precision), 6))
