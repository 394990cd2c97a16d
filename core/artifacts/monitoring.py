"""What monitoring reads and writes: `monitoring.json` beside a pushed model, and its findings about production."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from core.artifacts.base import JsonFile
from core.artifacts.verdict import Range
from core.settings.monitoring import MonitoringSettings


@dataclasses.dataclass(frozen=True)
class MonitoringConfig:
    """How a model will be monitored, as known before it is judged.

    Attributes:
        boundaries: bucket boundaries of the images' statistics, as in the schema.
        features: the slice features that every image has, with or without a label.
    """

    boundaries: dict[str, list[float]]
    features: tuple[str, ...]
    bounds: MonitoringSettings


@dataclasses.dataclass(frozen=True)
class Counted:
    """How many test images there are of a kind, and how many of them the model gets right."""

    images: int
    right: int


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean and variance of a number over the test images that the model can read."""

    mean: float
    variance: float


@dataclasses.dataclass(frozen=True)
class Reference:
    """The model's predictions for its test split, which production is compared with.

    Attributes:
        readable: how many of the images the model can read; `confidence` leaves out the others.
        predicted: how many images are predicted as each class, by its name, for all classes.
        labels: how many images are labeled as each class.
        slices: by feature and value.
        confidence: the probability of the predicted class.
    """

    overall: Counted
    readable: int
    predicted: dict[str, int]
    labels: dict[str, int]
    slices: dict[str, dict[str, Counted]]
    confidence: Moments
    boundaries: dict[str, list[float]]
    bounds: MonitoringSettings

    def __post_init__(self) -> None:
        counted = [self.overall, *(one for values in self.slices.values() for one in values.values())]
        counts = [self.readable, *self.predicted.values(), *self.labels.values()]
        if (
            not all(0 <= one.right <= one.images <= self.overall.images for one in counted)
            or not all(0 <= count <= self.overall.images for count in counts)
            or self.predicted.keys() != self.labels.keys()
            or not 0 <= self.confidence.mean <= 1
            or self.confidence.variance < 0
        ):
            raise ValueError("its numbers do not fit together")


REFERENCE = JsonFile("monitoring.json", Reference)
"""Beside gate.json, and in the pushed version's folder, where model servers ignore it."""


@dataclasses.dataclass(frozen=True)
class Observation:
    """One image from production, and the model's outputs for it.

    Attributes:
        path: relative to the folder of the images or of the log; empty if the image was not kept.
        time: when it arrived, in seconds since 1970; None if unknown.
        probabilities: in the order of the model's classes; empty if the image could not be read.
        error: why it could not be read.
        novelty: None for models without this output.
        slices: values of its slice features, as far as they are known.
    """

    path: str
    time: float | None
    probabilities: tuple[float, ...]
    error: str
    novelty: float | None
    slices: dict[str, str]

    def predicted(self, classes: Sequence[str]) -> tuple[str, float]:
        """The most probable class and its probability, for an image that could be read."""
        best = max(self.probabilities)
        return classes[self.probabilities.index(best)], best


State = Literal["broken", "doubt", "kept", "unbounded", "too_few"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """How one quantity differs between the test split and production.

    Attributes:
        kind: name of the setting that bounds it.
        name: what is compared, such as `brightness=dark (<0.3)`.
        before: on the test split; None if it is not measured there.
        now: in production.
        change: `now` minus `before`.
        state: as for the gate's bounds; `unbounded` without a bound, `too_few` if there are too few images to tell.
    """

    kind: str
    name: str
    before: Range
    now: Range
    change: Range
    bound: float | None
    state: State


@dataclasses.dataclass(frozen=True)
class ClassShare:
    """A class: its share of the test images and of the predictions, and its estimated share of production.

    The estimate (label shift) is None if the images are of other kinds than the test split's.
    """

    class_name: str
    test: float
    predicted: float
    estimated: Range


@dataclasses.dataclass(frozen=True)
class Measured:
    """Accuracy measured with labels that arrived later.

    Attributes:
        labels: how many images have one.
        used: how many of these were sampled at random and so represent production.
        accuracy: on the images used.
        slices: accuracy on them by `feature=value`, if there are enough.
        notes: sentences about labels that could not be used.
    """

    labels: int
    used: int
    accuracy: Range
    slices: dict[str, Range]
    notes: list[str]


@dataclasses.dataclass(frozen=True)
class Monitored:
    """How production compares with the test split.

    Attributes:
        model: folder of the version.
        pushed: when it was pushed, UTC, ISO 8601; None if its name does not say.
        images: how many were examined; `since_push` of them arrived after the push, None if unknown.
        first: when the first image arrived; `last` is likewise.
        expected_accuracy: estimated without labels, from the test split's accuracy and the loss of confidence since;
            None if the images are of other kinds than the test split's.
        findings: broken bounds first.
        notes: what was not compared, and why.
    """

    model: str
    pushed: str | None
    age_days: float | None
    images: int
    unreadable: int
    since_push: int | None
    first: str | None
    last: str | None
    confidence: float
    test_accuracy: Range
    expected_accuracy: Range
    findings: list[Finding]
    classes: list[ClassShare]
    measured: Measured | None
    notes: list[str]
    to_label: int = 0

    @property
    def broken(self) -> list[Finding]:
        """The findings beyond their bounds."""
        return [one for one in self.findings if one.state == "broken"]


MONITORED = JsonFile("monitored.json", Monitored)
