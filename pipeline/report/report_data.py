"""What a report is made of; every part may be missing, since a run can fail early."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from core.artifacts.backbone import BackboneRecord
from core.artifacts.features import Features
from core.artifacts.ingest_record import DuplicateGroup, IngestCounts, Reject
from core.artifacts.last_run import Outcome
from core.artifacts.predictions import Prediction
from core.artifacts.serving_check import ServingReport
from core.artifacts.training_summary import TrainingSummary
from core.artifacts.verdict import Verdict
from pipeline.report.drift import Drift
from pipeline.report.failure_analysis import FailureAnalysis
from pipeline.runs.history import Run
from pipeline.runs.lineage import NodeRun

MAIN = "accuracy"
"""The metric that stands beside every slice and every run."""


@dataclasses.dataclass(frozen=True)
class Data:
    """The images of the run; `samples` are paths and data URIs, `drift` is None if no earlier run had other images."""

    counts: IngestCounts
    rejects: list[Reject]
    duplicates: list[DuplicateGroup]
    content_sha256: str | None
    samples: dict[str, list[tuple[str, str]]]
    drift: Drift | None


class StepValue(NamedTuple):
    """A value that the Estimator wrote at a step."""

    step: int
    value: float


@dataclasses.dataclass(frozen=True)
class Training:
    """The training, its curves, and the trials of the search before it, the best first."""

    summary: TrainingSummary
    loss: list[StepValue]
    learning_rate: list[StepValue]
    trials: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Mistake:
    """One of the worst mistakes, and JPEGs as data URIs: the image, what the network saw, and where it looked."""

    prediction: Prediction
    original: str
    seen: str
    attribution: str | None


@dataclasses.dataclass(frozen=True)
class ReportData:
    """All that a report shows of one run.

    Attributes:
        settings: as plain values, every default written out.
        pushed: the version's folder that holds this run's model, if it was pushed, now or by a run before.
        analyses: of each failure in `outcome`; None where it is not about a slice.
        test_images: data URIs of those that the analyses name, by path, as far as they were found.
        lineage: the stages in the order in which they started.
        makers: which execution, of which run, made each artifact that the stages left.
        history: this run and those before it, oldest first.
        pages: links to the reports of earlier runs, by their ids.
        missing: parts that should be there and could not be read, in words.
    """

    name: str
    run_dir: Path
    outcome: Outcome
    made: datetime
    settings: dict[str, Any]
    versions: dict[str, str]
    hashes: dict[str, str]
    pushed: str | None = None
    data: Data | None = None
    training: Training | None = None
    verdict: Verdict | None = None
    serving: ServingReport | None = None
    backbone: BackboneRecord | None = None
    features: Features | None = None
    predictions: list[Prediction] = dataclasses.field(default_factory=list)
    gallery: list[Mistake] = dataclasses.field(default_factory=list)
    analyses: list[FailureAnalysis | None] = dataclasses.field(default_factory=list)
    test_images: dict[str, str] = dataclasses.field(default_factory=dict)
    lineage: list[NodeRun] = dataclasses.field(default_factory=list)
    makers: dict[int, tuple[int, str]] = dataclasses.field(default_factory=dict)
    history: list[Run] = dataclasses.field(default_factory=list)
    pages: dict[str, str] = dataclasses.field(default_factory=dict)
    missing: list[str] = dataclasses.field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """Of the model; else of the data."""
        if self.training:
            return self.training.summary.classes
        return list(self.data.counts.classes) if self.data else []
