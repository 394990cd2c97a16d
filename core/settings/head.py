"""The settings `head`: what sits on the pre-trained network."""

import dataclasses
from typing import Literal

from core.settings.checks import AtLeast1, FractionBelow1, NotNegative


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """What sits on the pooled features: standardization, Dense(relu) layers with dropout, Dense(classes).

    Attributes:
        hidden_units: of each Dense(relu) layer; `[]`: a linear classifier.
        dropout: the fraction of the units that is dropped after each of these layers in training.
        label_smoothing: the fraction of the target probability that is spread over all classes (Szegedy et al. 2016).
        class_weights: `balanced` weighs an example by the inverse of its class's share of the training images.
        l2: times the sum of the squared kernels of the head is added to the training loss, as Keras's `L2` does.
    """

    hidden_units: tuple[AtLeast1, ...] = (1024,)
    dropout: FractionBelow1 = 0.2
    l2: NotNegative = 0.0
    label_smoothing: FractionBelow1 = 0.0
    class_weights: Literal["balanced"] | None = None
