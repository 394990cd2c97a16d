"""What a report is made of; every part may be missing, since a run can fail early."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from pathlib import Path
from typing import Any

from core.artifacts.predictions import Prediction
from core.artifacts.serving_check import ServingReport
from pipeline.runs.outcome import Outcome


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
class Duplicates:
    """Images that show the same, `identical` or `near`, or are a `group` in several splits; an entry for each."""

    kind: str
    paths: list[str]
    labels: list[str]
    splits: list[str]

    @property
    def contradict(self) -> bool:
        """Whether the same is called by different names; a group may have several."""
        return self.kind != "group" and len(set(self.labels)) > 1


@dataclasses.dataclass(frozen=True)
class Shift:
    """How much a feature of the train split changed since an earlier run.

    Attributes:
        feature: its name.
        distance: the largest change of any value's share (the L-infinity distance that TFDV takes for drift), from 0 to
            1; of numbers, the change of the median over the standard deviation before.
        value: that changed most; None for a feature that is a number.
        before: its share then; of numbers, the median.
        now: likewise.
    """

    feature: str
    distance: float
    value: str | None
    before: float
    now: float


@dataclasses.dataclass(frozen=True)
class Drift:
    """The train split against that of the last run with other images.

    Attributes:
        run: ML Metadata's name of that run.
        before: images it trained on.
        now: images of this run.
        shifts: the largest first; shares and numbers apart.
    """

    run: str
    before: int
    now: int
    shifts: list[Shift]


@dataclasses.dataclass(frozen=True)
class Data:
    """What was read.

    Attributes:
        found: files.
        read: images.
        rejected: files that cannot be used.
        classes: images by class.
        rejects: the first files that cannot be used, with `path`, `stage` and `reason`.
        content_sha256: of all images' paths, contents and classes.
        samples: pictures to train on, by class.
        ignored: files that are no images by their names, such as hidden ones.
        duplicates: images that show the same, and groups across splits; those that contradict each other first.
        drift: since an earlier run; None if there is none with other images.
    """

    found: int
    read: int
    rejected: int
    classes: list[ClassCounts]
    rejects: list[dict[str, str]]
    content_sha256: str | None = None
    samples: dict[str, list[Picture]] = dataclasses.field(default_factory=dict)
    ignored: int = 0
    duplicates: list[Duplicates] = dataclasses.field(default_factory=list)
    drift: Drift | None = None

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
    """`training_summary.json`, what the event files hold beside it, and the Tuner's trials, the best first."""

    summary: dict[str, Any]
    loss: list[StepValue]
    learning_rate: list[StepValue]
    trials: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Mistake:
    """One of the worst mistakes: the image, what the network saw, and where it looked."""

    prediction: Prediction
    original: Picture
    seen: Picture
    attribution: Picture | None


@dataclasses.dataclass(frozen=True)
class Trait:
    """A value that some images, such as mistakes, have more often than others, beyond chance.

    Attributes:
        name: `brightness=dark`.
        count: how many of them have it.
        others: how many of the others.
    """

    name: str
    count: int
    others: int


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What is behind a bound that was broken.

    Attributes:
        count: images in the slice.
        mistakes: how many of them were wrong.
        lost: how many of these the last blessed model had right; None where it was not asked.
        taken_for: true class, predicted class and how often, most frequent first.
        confidence: median probability of the wrong classes; None if there is no mistake.
        traits: what the mistakes have in common, unlike the slice's other images; the most telling first.
        apart: what the slice's images have in common, unlike the rest of the test split; likewise.
        outside: how many images the rest has.
        pictures: the mistakes that tell most, with their predictions.
        learned: the class whose images are wrong most often, and the one they are most often taken for: each with its
            number of images to train on (None if unknown) and pictures of them.
    """

    count: int
    mistakes: int
    lost: int | None
    taken_for: list[tuple[str, str, int]]
    confidence: float | None
    traits: list[Trait]
    apart: list[Trait]
    outside: int
    pictures: list[tuple[Prediction, Picture]]
    learned: list[tuple[str, int | None, list[Picture]]]

    @property
    def others(self) -> int:
        """Images of the slice that are right."""
        return self.count - self.mistakes


@dataclasses.dataclass(frozen=True)
class Made:
    """An artifact that a node of the run left, or had left before.

    Attributes:
        output: the name the node gives it.
        id: ML Metadata's.
        uri: where it is.
        execution: that made it.
        run: of that execution; empty if it is this one.
    """

    output: str
    id: int
    uri: str
    execution: int
    run: str


@dataclasses.dataclass(frozen=True)
class Step:
    """A node of the run in ML Metadata.

    Attributes:
        node: its id.
        state: complete, cached, failed or running.
        execution: ML Metadata's number.
        sources: nodes of this run whose artifacts it read.
        read: numbers of these artifacts.
        made: what it left.
    """

    node: str
    state: str
    execution: int
    sources: list[str]
    read: list[int]
    made: list[Made]


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
        serving: of ServingCheck.
        backbone: `backbone.json`.
        features: `features.json` of FeatureExtractor.
        evidence: for each of the failures in `outcome`; None where no images are behind it.
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
    serving: ServingReport | None = None
    backbone: dict[str, Any] | None = None
    features: dict[str, Any] | None = None
    predictions: list[Prediction] = dataclasses.field(default_factory=list)
    gallery: list[Mistake] = dataclasses.field(default_factory=list)
    evidence: list[Evidence | None] = dataclasses.field(default_factory=list)
    lineage: list[Step] = dataclasses.field(default_factory=list)
    history: list[PastRun] = dataclasses.field(default_factory=list)
    missing: list[str] = dataclasses.field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """Of the model; else of the data."""
        if self.training:
            return list(self.training.summary.get("classes", []))
        return [c.name for c in self.data.classes] if self.data else []
