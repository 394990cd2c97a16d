"""What monitoring reads and writes: `monitoring.json` beside a pushed model, and what was found of production."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from core.artifacts.base import JsonFile
from core.artifacts.verdict import Range
from core.settings.monitoring import MonitoringSettings


@dataclasses.dataclass(frozen=True)
class MonitoringConfig:
    """What is known of a model's monitoring before it is judged.

    Attributes:
        boundaries: of the buckets of the images' statistics, as in the schema.
        features: the slice features that every image has, whatever it is labeled with.
    """

    boundaries: dict[str, list[float]]
    features: tuple[str, ...]
    bounds: MonitoringSettings


@dataclasses.dataclass(frozen=True)
class Counted:
    """How many test images there are of a kind, and how many of them the model has right."""

    images: int
    right: int


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean and variance of a number over the test images that the model can read."""

    mean: float
    variance: float


@dataclasses.dataclass(frozen=True)
class Reference:
    """The model on its test split: what production is compared with.

    Attributes:
        readable: how many of the images the model can read; the others are in no moment.
        predicted: how many images are predicted as each class, by its name, for all classes.
        labels: likewise how many are of it.
        slices: by feature and value.
        confidence: of the probability of the predicted class.
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
"""Beside gate.json, and in the pushed version's folder, where model servers do not look at it."""


@dataclasses.dataclass(frozen=True)
class Observation:
    """One image of production, and what the model says of it.

    Attributes:
        path: relative to the folder, or the log's folder; empty if the image was not kept.
        time: seconds since 1970 when it came; None if nobody knows.
        probabilities: in the order of the model's classes; empty if it could not be read.
        error: why it could not.
        novelty: None of models that do not say.
        slices: its values of the slice features, as far as they are known.
    """

    path: str
    time: float | None
    probabilities: tuple[float, ...]
    error: str
    novelty: float | None
    slices: dict[str, str]

    def predicted(self, classes: Sequence[str]) -> tuple[str, float]:
        """The most probable of the model's classes, and its probability; of an image that could be read."""
        best = max(self.probabilities)
        return classes[self.probabilities.index(best)], best


State = Literal["broken", "doubt", "kept", "unbounded", "too_few"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """How one thing differs between the test split and production.

    Attributes:
        kind: the bound that it is held to, by the setting's name.
        name: what is compared, such as `brightness=dark (<0.3)`.
        before: on the test split; None where it is not measured there.
        now: in production.
        change: the difference.
        state: as of the gate's bounds; `unbounded` without one, `too_few` where there are too few images to say.
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
    """A class: its share of the test images, of the predictions, and of production by the estimate of label shift.

    That is None where the images are of other kinds than the test split's.
    """

    class_name: str
    test: float
    predicted: float
    estimated: Range


@dataclasses.dataclass(frozen=True)
class Measured:
    """What labels that arrived later say.

    Attributes:
        labels: how many images have one.
        used: how many of these were chosen at random, so that they stand for production.
        accuracy: on those.
        slices: on those, by `feature=value`, where there are enough.
        notes: sentences on labels that could not be used.
    """

    labels: int
    used: int
    accuracy: Range
    slices: dict[str, Range]
    notes: list[str]


@dataclasses.dataclass(frozen=True)
class Monitored:
    """What production looks like beside the test split.

    Attributes:
        model: folder of the version.
        pushed: when it was, UTC, ISO 8601; None if its name does not say.
        images: how many were looked at; `since_push` of these came after it was pushed, None if nobody knows.
        first: and `last`: when the images came.
        expected_accuracy: without labels: the test split's, and by how much the model is less sure now; None where the
            images are of other kinds than the test split's.
        findings: the broken ones first.
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
        """Those beyond their bounds."""
        return [one for one in self.findings if one.state == "broken"]


MONITORED = JsonFile("monitored.json", Monitored)
