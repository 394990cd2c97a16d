"""Collects what a report shows about a run from ML Metadata and its artifacts."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from ml_metadata.metadata_store import MetadataStore

from core.artifacts import (
    backbone,
    exported_model,
    features,
    gallery,
    ingest_record,
    search,
    serving_check,
    suspects,
    training_summary,
    validation,
    verdict,
)
from core.artifacts.backbone import BackboneRecord
from core.artifacts.base import split_dir
from core.artifacts.features import Features
from core.artifacts.gallery import GalleryNeighbor
from core.artifacts.ingest_record import DuplicateGroup, IngestCounts, Reject
from core.artifacts.last_run import Outcome
from core.artifacts.nodes import STATISTICS
from core.artifacts.predictions import PREDICTIONS, Prediction, read_predictions, read_scores
from core.artifacts.pushed_model import PUSHED_MODEL, pushed_to
from core.artifacts.serving_check import ServingReport
from core.artifacts.suspects import LabelQuality, Suspect
from core.artifacts.training_summary import TrainingSummary
from core.artifacts.validation import Shortcut
from core.artifacts.verdict import Verdict
from core.image_limits import DEFAULT_LIMITS, ImageLimits
from pipeline import provenance
from pipeline.report import thumbnails
from pipeline.report.confusions import confused_pairs
from pipeline.report.coverage import most_novel
from pipeline.report.drift import Drift, drift
from pipeline.report.failure_analysis import FailureAnalysis, analyze
from pipeline.report.reliability import error_before
from pipeline.runs import history, lineage, metadata
from pipeline.runs.history import Run
from pipeline.runs.lineage import NodeRun

_SHOWN_REJECTS = 200
_SHOWN_DUPLICATES = 100
_SHOWN_RUNS = 40
_SHOWN_SUSPECTS = 24
_SHOWN_REGRESSIONS = 24
_POINTS = 300

ANALYZED = 10  # failures whose images are shown; a thousand classes may all break a bound

MAIN = "accuracy"  # the metric that stands beside every slice and every run


@dataclasses.dataclass(frozen=True)
class Data:
    """The images of the run.

    Attributes:
        ignored: a path for each reason.
        samples: paths and data URIs.
        drift: None if no earlier run had other images.
    """

    counts: IngestCounts
    rejects: list[Reject]
    ignored: dict[str, str]
    left_out: list[Reject]
    duplicates: list[DuplicateGroup]
    content_sha256: str | None
    samples: dict[str, list[tuple[str, str]]]
    drift: Drift | None

    @property
    def untrained(self) -> list[str]:
        """The classes of which every image was left out."""
        return [name for name, of in self.counts.classes.items() if of.left_out and not any(of.splits.values())]


class StepValue(NamedTuple):
    """A value that the Estimator wrote at a step."""

    step: int
    value: float


@dataclasses.dataclass(frozen=True)
class Labels:
    """How good the labels are; the suspects, most doubtful first, and data URIs of the first ones by split and path."""

    quality: LabelQuality
    suspects: list[Suspect]
    images: dict[tuple[str, str], str]


@dataclasses.dataclass(frozen=True)
class Training:
    """The training, its curves, and the trials of the search before it, best first."""

    summary: TrainingSummary
    loss: list[StepValue]
    learning_rate: list[StepValue]
    trials: list[dict[str, Any]]


class NeighborImage(NamedTuple):
    """A training image and how similar it is; `image` is a JPEG as a data URI."""

    neighbor: GalleryNeighbor
    image: str


class Mistake(NamedTuple):
    """One of the worst mistakes, and JPEGs as data URIs: the image, what the network saw, where it looked, and the
    training images most like it."""

    prediction: Prediction
    original: str
    seen: str
    attribution: str
    neighbors: list[NeighborImage]


@dataclasses.dataclass(frozen=True)
class ReportData:
    """Everything a report shows about one run; much may be missing, since a run can fail early.

    Attributes:
        settings: as plain values, every default written out.
        pushed: the version's folder that holds this run's model, if it was pushed, now or by a run before.
        analyses: of each failure in `outcome`; None where it is not about a slice.
        test_images: data URIs of those that the analyses name and of the most novel, by path, as far as they were
            found.
        regression_images: likewise of the past failures that are wrong.
        lineage: the stages in the order in which they started.
        makers: which execution, of which run, made each artifact that the stages left.
        history: this run and those before it, oldest first.
        pages: links to the reports of earlier runs, by their ids.
        error_before: the calibration error on the test split without the model's temperature.
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
    shortcuts: list[Shortcut] = dataclasses.field(default_factory=list)
    labels: Labels | None = None
    training: Training | None = None
    verdict: Verdict | None = None
    serving: ServingReport | None = None
    backbone: BackboneRecord | None = None
    features: Features | None = None
    predictions: list[Prediction] = dataclasses.field(default_factory=list)
    error_before: float | None = None
    gallery: list[Mistake] = dataclasses.field(default_factory=list)
    analyses: list[FailureAnalysis | None] = dataclasses.field(default_factory=list)
    test_images: dict[str, str] = dataclasses.field(default_factory=dict)
    regression_images: dict[str, str] = dataclasses.field(default_factory=dict)
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


def collect(run_dir: Path, name: str, outcome: Outcome, settings: dict[str, Any]) -> ReportData:
    """Reads everything about a run of the pipeline `name`; what cannot be read is named in `ReportData.missing`."""
    reader = lineage.Reader({}, logging.ERROR)
    limits = ImageLimits(transparent=settings.get("data", {}).get("transparent", DEFAULT_LIMITS.transparent))
    read, attempt = reader.read, reader.attempt
    server = metadata.server_in(settings)
    store = (
        attempt("cannot read ML Metadata", lambda: metadata.open_store(run_dir, server))
        if metadata.exists(run_dir, server)
        else None
    )
    reader.nodes = nodes = lineage.node_runs(store, outcome.run_id) if store and outcome.run_id else {}
    runs = (attempt("cannot read the history", lambda: _history(store, name, outcome)) if store else None) or []
    predictions = read(PREDICTIONS, read_predictions) or []
    judged = outcome.failures[:ANALYZED] if predictions else []
    analyses = attempt("cannot analyze the failures", lambda: [analyze(one, predictions) for one in judged]) or []
    found = [analysis for analysis in analyses if analysis]
    worst_pairs = [*(pair for a in found for pair in a.confusions[:1]), *confused_pairs(predictions)]
    confused = [name for pair in worst_pairs for name in (pair.actual, pair.predicted)]
    shown = [*(prediction for analysis in found for prediction in analysis.worst), *most_novel(predictions)]
    since = (
        attempt("cannot compare the data with earlier runs", lambda: _drift(store, name, outcome.run_id, nodes))
        if nodes
        else None
    )
    judged_by = read(verdict.BLESSING, verdict.VERDICT.read)
    past = judged_by.regressions.wrong[:_SHOWN_REGRESSIONS] if judged_by and judged_by.regressions else []
    pushed = lineage.output(nodes, PUSHED_MODEL)
    return ReportData(
        name=name,
        run_dir=run_dir,
        outcome=outcome,
        made=datetime.now(),
        settings=settings,
        versions=provenance.versions(),
        hashes=provenance.hashes(),
        pushed=pushed_to(pushed.properties) if pushed else None,
        data=read(ingest_record.RECORD, lambda record: _data(record, nodes, confused, limits, since)),
        shortcuts=read(validation.VERDICT, lambda folder: validation.DATA_VERDICT.read(folder).shortcuts) or [],
        labels=read(suspects.SUSPECTS, lambda folder: _labels(folder, nodes, limits)),
        training=read(training_summary.MODEL_RUN, lambda folder: _training(folder, nodes)),
        verdict=judged_by,
        serving=read(serving_check.BLESSING, serving_check.SERVING_CHECK.read),
        backbone=read(backbone.BACKBONE, lambda folder: backbone.RECORD.read(exported_model.serving_dir(folder))),
        features=read(features.EXTRACTED, features.FEATURES_FILE.read),
        predictions=predictions,
        error_before=read(PREDICTIONS, lambda folder: _error_before(folder, predictions, outcome)),
        gallery=read(gallery.GALLERY, _gallery) or [],
        analyses=analyses,
        test_images=read(
            ingest_record.EXAMPLES,
            lambda uri: thumbnails.by_path(split_dir(uri, "test"), {p.path for p in shown}, limits),
        )
        or {},
        regression_images=read(
            ingest_record.REGRESSION_EXAMPLES,
            lambda uri: thumbnails.by_path(split_dir(uri, "*"), {one.path for one in past}, limits),
        )
        or {},
        lineage=list(nodes.values()),
        makers=(attempt("cannot read the lineage", lambda: lineage.makers(store, nodes)) if nodes else None) or {},
        history=runs,
        pages={run.id: path.name for run in runs if (path := page_path(run_dir, run.id)).is_file()},
        missing=reader.problems,
    )


def page_path(run_dir: Path, run: str) -> Path:
    """The page of a run; ML Metadata's names are times with colons."""
    return run_dir / "reports" / ("".join(c if c.isalnum() or c in "-_." else "-" for c in run) + ".html")


def _history(store: MetadataStore, name: str, outcome: Outcome) -> list[Run]:
    """The last runs up to this one, whose status is not recorded until after its report."""
    runs = history.all_runs(store, name, outcome.run_id, _SHOWN_RUNS)
    return [dataclasses.replace(run, status=outcome.status) if run.id == outcome.run_id else run for run in runs]


def _drift(store: MetadataStore, name: str, run_id: str | None, nodes: Mapping[str, NodeRun]) -> Drift | None:
    """Since the last run before this one that had other images."""
    now = lineage.output(nodes, STATISTICS)
    if now is not None:
        for earlier in history.contexts_up_to(store, name, run_id)[-2 : -_SHOWN_RUNS - 2 : -1]:
            its_nodes = lineage.node_runs(store, earlier.name)
            then = lineage.output(its_nodes, STATISTICS)
            # Statistics of the same images are made anew where the schema was edited.
            if then is not None and _content_sha256(its_nodes) != _content_sha256(nodes) and Path(then.uri).is_dir():
                return drift(earlier.name, then.uri, now.uri)
    return None


def _content_sha256(nodes: Mapping[str, NodeRun]) -> str | None:
    """Of the images' paths, contents and classes."""
    examples = lineage.output(nodes, ingest_record.EXAMPLES)
    return str(examples.properties.get(ingest_record.CONTENT_SHA256, "")) if examples else None


def _data(
    record: str, nodes: Mapping[str, NodeRun], first: list[str], limits: ImageLimits, since: Drift | None
) -> Data:
    """`first`: the classes of which samples are wanted before those of others, if there are too many classes."""
    counts = ingest_record.COUNTS.read(record)
    duplicates = sorted(
        ingest_record.DUPLICATES.read(record), key=lambda g: (not g.contradicts, not g.leaks, -len(g.paths))
    )
    examples = lineage.output(nodes, ingest_record.EXAMPLES)
    wanted = itertools.islice(dict.fromkeys([*first, *counts.classes]), thumbnails.SAMPLED_CLASSES)
    return Data(
        counts=counts,
        rejects=list(itertools.islice(ingest_record.REJECTS.read(record), _SHOWN_REJECTS)),
        ignored={one.reason: one.path for one in ingest_record.IGNORED.read(record)},
        left_out=list(itertools.islice(ingest_record.LEFT_OUT.read(record), _SHOWN_REJECTS)),
        duplicates=duplicates[:_SHOWN_DUPLICATES],
        content_sha256=_content_sha256(nodes),
        samples=thumbnails.samples(split_dir(examples.uri, "train"), sorted(wanted), limits) if examples else {},
        drift=since,
    )


def _labels(folder: str, nodes: Mapping[str, NodeRun], limits: ImageLimits) -> Labels:
    found = list(suspects.SUSPECTS_FILE.read(folder))
    shown: dict[str, set[str]] = {}
    for suspect in found[:_SHOWN_SUSPECTS]:
        shown.setdefault(suspect.split, set()).add(suspect.path)
    examples = lineage.output(nodes, ingest_record.EXAMPLES)
    images = {
        (split, path): uri
        for split, paths in shown.items()
        if examples
        for path, uri in thumbnails.by_path(split_dir(examples.uri, split), paths, limits).items()
    }
    return Labels(suspects.QUALITY.read(folder), found, images)


def _training(folder: str, nodes: Mapping[str, NodeRun]) -> Training:
    summary = training_summary.SUMMARY.read(folder)
    trials = lineage.output(nodes, search.TRIALS)
    import tensorflow as tf  # 9 s, unless the run has loaded it
    from tensorflow.core.util import event_pb2

    from trainer.network.model import LOSS

    values: dict[str, dict[int, float]] = {LOSS: {}, "learning_rate": {}}
    for events in sorted(Path(folder).glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(events)).as_numpy_iterator():
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                if value.tag in values:
                    values[value.tag][event.step] = value.simple_value  # after a restart the later value counts
    tried = search.read_trials(trials.uri) if trials else []
    return Training(summary, _thinned(values[LOSS]), _thinned(values["learning_rate"]), tried)


def _thinned(values: dict[int, float]) -> list[StepValue]:
    points = [StepValue(step, value) for step, value in sorted(values.items())]
    every = len(points) // _POINTS + 1
    return [*points[:-1:every], *points[-1:]]


def _error_before(folder: str, predictions: list[Prediction], outcome: Outcome) -> float | None:
    calibration = outcome.calibration
    return error_before(predictions, read_scores(folder), calibration.temperature) if calibration else None


def _gallery(folder: str) -> list[Mistake]:
    def uri(name: str) -> str:
        return thumbnails.data_uri(Path(folder, name).read_bytes())

    return [
        Mistake(
            image.prediction,
            uri(image.original),
            uri(image.seen),
            uri(image.attribution),
            [NeighborImage(neighbor, uri(neighbor.file)) for neighbor in image.neighbors],
        )
        for image in gallery.GALLERY_FILE.read(folder).images
    ]
