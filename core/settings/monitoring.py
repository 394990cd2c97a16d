"""The settings `monitoring`: what `make monitor` holds production to."""

import dataclasses
from typing import Annotated

from msgspec import Meta

from core.settings.checks import Fraction


@dataclasses.dataclass(frozen=True)
class MonitoringSettings:
    """How far production may be from the test split of the model in service; null demands nothing.

    They are pushed with the model, so that it can be monitored where nothing but its folder is. A bound is broken only
    if the images say so with confidence; docs/monitoring.md says how.

    Attributes:
        image_drift: how far the share of any kind of image (dark ones, small ones, PNGs) may have moved.
        class_drift: how far the share of the images that are predicted as any class may have moved.
        novel: how many images may be more novel than 95 % of the eval images are, of models that say how novel one is;
            without a shift it is 5 %.
        accuracy_drop: how far accuracy may be below the test split's: the expected one, and the measured one where
            there are labels.
        unreadable: how many images may be such that the model cannot read them.
        confidence: with which a bound must be broken, all bounds taken together.
    """

    image_drift: Fraction | None = 0.2
    class_drift: Fraction | None = 0.2
    novel: Fraction | None = 0.2
    accuracy_drop: Fraction | None = 0.05
    unreadable: Fraction | None = 0.05
    confidence: Annotated[float, Meta(ge=0.5, lt=1)] = 0.95
