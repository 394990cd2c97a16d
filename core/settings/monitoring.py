"""The settings `monitoring`: the bounds that `make monitor` checks production against."""

import dataclasses
from typing import Annotated

from msgspec import Meta

from core.settings.checks import Fraction


@dataclasses.dataclass(frozen=True)
class MonitoringSettings:
    """How far production may be from the test split of the model in service; null means no bound.

    These settings are pushed with the model, so that monitoring needs only its folder. A bound is broken only if the
    images show it with confidence; docs/monitoring.md explains how.

    Attributes:
        image_drift: how much the share of any kind of image (dark, small, PNG) may have changed.
        class_drift: how much the share of images predicted as any class may have changed.
        novel: the fraction of images that may be more novel than 95 % of the eval images; 5 % without a shift. Only for
            models that output novelty.
        accuracy_drop: how far accuracy may be below the test split's; applies to the expected accuracy, and to the
            measured one if there are labels.
        unreadable: the fraction of images that the model may be unable to read.
        confidence: required to call a bound broken, corrected for the number of bounds.
    """

    image_drift: Fraction | None = 0.2
    class_drift: Fraction | None = 0.2
    novel: Fraction | None = 0.2
    accuracy_drop: Fraction | None = 0.05
    unreadable: Fraction | None = 0.05
    confidence: Annotated[float, Meta(ge=0.5, lt=1)] = 0.95
