"""The settings `evaluation`: what is measured, and what a model must achieve to be pushed."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from core.metrics import LOSS, METRICS
from core.settings.checks import AtLeast0, AtLeast1, FilePath, NotNegative, require
from core.settings.export import ExportFormat
from core.slices import feature_keys

Metric = Annotated[str, Meta(extra_json_schema={"enum": list(METRICS)})]


@dataclasses.dataclass(frozen=True)
class MetricBounds:
    """Bounds of one metric on the entire test split.

    Attributes:
        min: the lowest value allowed.
        max: the highest value allowed.
        max_drop: how much worse it may be than the last blessed model's on the same images; for a loss, how much
            higher.
    """

    min: float | None = None
    max: float | None = None
    max_drop: NotNegative | None = None


@dataclasses.dataclass(frozen=True)
class SliceBounds(MetricBounds):
    """Bounds of one metric on every slice that has enough test images.

    Attributes:
        min_examples: how many test images are enough.
    """

    min_examples: AtLeast1 = 30


_EXPORT_BOUNDS: dict[Metric, MetricBounds] = {"accuracy": MetricBounds(max_drop=0.02)}


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """What is measured, on which slices, and what a model must achieve to be pushed; docs/gate.md explains the
    judgment.

    Attributes:
        thresholds: bounds on the entire test split, by metric.
        per_slice: bounds on every slice, by metric.
        confidence: a bound is broken if the test images show it with this confidence, corrected for the number of
            bounds.
        on_doubt: what happens to a model if the test images show neither that it keeps a bound nor that it breaks it.
        export: bounds on what the model is converted to, on the entire split, by format of the setting `export`;
            `max_drop` is against the SavedModel on the same images. The default is `accuracy.max_drop: 0.02`.
        slices: `label`, or another feature `slice/…` by its name; `*` crosses several. Of more than 1,000 slices, those
            with the most test images are measured, and all that a bound of `per_slice` applies to.
        regressions: a folder, local, `gs://` or `s3://`, of images that earlier models got wrong and every later one
            must get right; laid out like a data folder, with one class or more. They are never trained on.
        max_regressions: how many of these the model may get wrong.
    """

    thresholds: dict[Metric, MetricBounds] = dataclasses.field(default_factory=dict)
    per_slice: dict[Metric, SliceBounds] = dataclasses.field(default_factory=dict)
    export: dict[ExportFormat, dict[Metric, MetricBounds]] = dataclasses.field(default_factory=dict)
    confidence: Annotated[float, Meta(ge=0.5, lt=1)] = 0.95
    on_doubt: Literal["pass", "refuse"] = "pass"
    slices: tuple[str, ...] = ("label", "resolution", "brightness")
    regressions: FilePath | None = None
    max_regressions: AtLeast0 = 0

    def __post_init__(self) -> None:
        feature_keys(self.slices)
        groups: dict[str, Mapping[Metric, MetricBounds]] = {
            "thresholds": self.thresholds,
            "per_slice": self.per_slice,
            **{f"export.{name}": bounds for name, bounds in self.export.items()},
        }
        for group, demands in groups.items():
            for metric, bounds in demands.items():
                require(
                    metric == LOSS or all(b is None or 0 <= b <= 1 for b in (bounds.min, bounds.max)),
                    f"{group}.{metric}: bounds are fractions, from 0 to 1",
                )
                require(
                    bounds.min is None or bounds.max is None or bounds.min <= bounds.max,
                    f"{group}.{metric}.min is {bounds.min}, above max, which is {bounds.max}",
                )

    def export_bounds(self, export_format: ExportFormat) -> dict[Metric, MetricBounds]:
        """The bounds of one format."""
        return self.export.get(export_format, _EXPORT_BOUNDS)
