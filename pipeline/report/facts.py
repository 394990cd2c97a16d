"""What a report is made of; every part may be missing, since a run can fail early."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from pathlib import Path
from typing import Any

from components.prediction import Prediction
from pipeline.outcome import Outcome


@dataclasses.dataclass(frozen=True)
class Picture:
    """A thumbnail as a data URI, and in words."""

    uri: str
    alt: str


@dataclasses.dataclass(frozen=True)
class ClassCounts:
    """Images of one class by split, and how many files of it could not be used."""

    name: str
    splits: dict[str, int]
    rejected: int


@dataclasses.dataclass(frozen=True)
class Data:
    """What was read. `fingerprint` stands for all files' names and contents; `samples` are pictures to train on."""

    found: int
    read: int
    rejected: int
    classes: list[ClassCounts]
    rejects: list[dict[str, str]]
    fingerprint: str | None = None
    samples: dict[str, list[Picture]] = dataclasses.field(default_factory=dict)

    @property
    def splits(self) -> list[str]:
        """Names of the splits, in order."""
        return list(self.classes[0].splits) if self.classes else []


@dataclasses.dataclass(frozen=True)
class StepValue:
    """A value the Estimator wrote at a step."""

    step: int
    value: float


@dataclasses.dataclass(frozen=True)
class Training:
    """`trainer.summary`'s content, and what the event files hold beside it."""

    summary: dict[str, Any]
    loss: list[StepValue]
    learning_rate: list[StepValue]


@dataclasses.dataclass(frozen=True)
class Mistake:
    """One of the worst mistakes: the image, what the network saw, and where it looked."""

    prediction: Prediction
    original: Picture
    seen: Picture
    attribution: Picture | None


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What is behind a bound that was broken: the mistakes on that slice.

    Attributes:
        count: images in the slice.
        mistakes: how many were wrong.
        taken_for: true class, predicted class and how often, most frequent first.
        confidence: median probability of the wrong classes.
        pictures: the worst, with their predictions.
    """

    count: int
    mistakes: int
    taken_for: list[tuple[str, str, int]]
    confidence: float | None
    pictures: list[tuple[Prediction, Picture]]


@dataclasses.dataclass(frozen=True)
class Lineage:
    """An artifact of the run as ML Metadata has it."""

    stage: str
    state: str
    output: str
    id: int
    uri: str


@dataclasses.dataclass(frozen=True)
class PastRun:
    """One run in the history; `accuracy` is on the test split, of `examples` images."""

    id: str
    started: datetime
    status: str
    accuracy: float | None
    examples: int | None
    version: str | None
    report: str | None
    current: bool


@dataclasses.dataclass(frozen=True)
class Facts:
    """All a report shows of one run.

    Attributes:
        name: of the pipeline.
        home: its folder.
        outcome: how the run ended.
        run_id: ML Metadata's name for the run; None if it failed before its first stage.
        made: when the report was made.
        pushed: the version's folder that holds this run's model, if it was pushed, now or by a run before.
        settings: as plain values, every default written out.
        gate: `gate.json` of ModelGate.
        serving: `serving_check.json` of ServingCheck.
        backbone: `backbone.json`.
        features: `features.json` of FeatureExtractor.
        evidence: by slice, of the failures in `outcome`.
        history: oldest first; the last one is this run.
        versions: of the software that made the report.
        hashes: of code and lock.
        missing: parts that should be there and could not be read, in words.
    """

    name: str
    home: Path
    outcome: Outcome
    run_id: str | None
    made: datetime
    settings: dict[str, Any]
    versions: dict[str, str]
    hashes: dict[str, str]
    pushed: str | None = None
    data: Data | None = None
    training: Training | None = None
    gate: dict[str, Any] | None = None
    serving: dict[str, Any] | None = None
    backbone: dict[str, Any] | None = None
    features: dict[str, Any] | None = None
    predictions: list[Prediction] = dataclasses.field(default_factory=list)
    gallery: list[Mistake] = dataclasses.field(default_factory=list)
    evidence: dict[str, Evidence] = dataclasses.field(default_factory=dict)
    lineage: list[Lineage] = dataclasses.field(default_factory=list)
    history: list[PastRun] = dataclasses.field(default_factory=list)
    missing: list[str] = dataclasses.field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """Of the model; else of the data."""
        if self.training:
            return list(self.training.summary.get("classes", []))
        return [c.name for c in self.data.classes] if self.data else []
