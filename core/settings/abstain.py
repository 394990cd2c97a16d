"""The settings `abstain`: when the exported model gives a picture no label."""

import dataclasses
from typing import Annotated

from msgspec import Meta

from core.settings.checks import Fraction, require

_Inside = Annotated[float, Meta(gt=0, lt=1)]


@dataclasses.dataclass(frozen=True)
class AbstainConfig:
    """When the model gives no label, and says why; its probabilities stay. docs/unknown.md says how this is chosen.

    Attributes:
        precision: of the labels that it gives, this fraction is to be right: the threshold on the probability is the
            lowest that the eval split shows to be enough.
        probability: or that threshold itself: a label that is less probable is withheld.
        novelty: what is less like the training pictures than this fraction of the eval pictures gets no label; so
            0.99 costs a hundredth of such pictures theirs. null: novelty withholds none.
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
