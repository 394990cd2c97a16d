"""Gathers what a report shows of a run, from ML Metadata and from the artifacts that its stages left."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import MetadataStore

from core.artifacts import (
    backbone,
    exported_model,
    features,
    gallery,
    ingest_record,
    search,
    serving_check,
    training_summary,
    verdict,
)
from core.artifacts.last_run import Outcome
from core.artifacts.nodes import STATISTICS, split_dir
from core.artifacts.predictions import PREDICTIONS, read_predictions
from core.artifacts.pushed_model import PUSHED_MODEL, pushed_to
from pipeline.report import provenance, thumbnails
from pipeline.report.drift import Drift, drift
from pipeline.report.failure_analysis import analyze
from pipeline.report.report_data import Data, Mistake, ReportData, StepValue, Training
from pipeline.runs import history, lineage
from pipeline.runs.history import Run
from pipeline.runs.lineage import NodeRun

_SHOWN_REJECTS = 200
_SHOWN_DUPLICATES = 100
_SHOWN_RUNS = 40
_POINTS = 300


def collect(run_dir: Path, name: str, outcome: Outcome, settings: dict[str, Any]) -> ReportData:
    """Reads all there is of a run of the pipeline `name`; what cannot be read is named in `ReportData.missing`."""
    reader = lineage.Reader({}, logging.ERROR)
    read, part = reader.read, reader.attempt
    store = part("ML Metadata", lambda: history.open_store(run_dir)) if (run_dir / history.METADATA).is_file() else None
    reader.nodes = nodes = lineage.node_runs(store, outcome.run_id) if store and outcome.run_id else {}
    runs = (part("the history", lambda: _history(store, name, outcome)) if store else None) or []
    predictions = read(PREDICTIONS, read_predictions) or []
    judged = outcome.failures if predictions else []
    analyses = part("what is behind the failures", lambda: [analyze(failure, predictions) for failure in judged]) or []
    found = [analysis for analysis in analyses if analysis]
    confused = [name for a in found for pair in a.confusions[:1] for name in (pair.actual, pair.predicted)]
    worst = {prediction.path for analysis in found for prediction in analysis.worst}
    since = part("the drift of the data", lambda: _drift(store, name, outcome.run_id, nodes)) if nodes else None
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
        data=read(ingest_record.RECORD, lambda record: _data(record, nodes, confused, since)),
        training=read(training_summary.MODEL_RUN, lambda folder: _training(folder, nodes)),
        verdict=read(verdict.BLESSING, verdict.VERDICT.read),
        serving=read(serving_check.BLESSING, serving_check.SERVING_CHECK.read),
        backbone=read(backbone.BACKBONE, lambda folder: backbone.RECORD.read(exported_model.serving_dir(folder))),
        features=read(features.EXTRACTED, features.FEATURES_FILE.read),
        predictions=predictions,
        gallery=read(gallery.GALLERY, _gallery) or [],
        analyses=analyses,
        test_images=read(ingest_record.EXAMPLES, lambda uri: thumbnails.by_path(split_dir(uri, "test"), worst)) or {},
        lineage=list(nodes.values()),
        makers=(part("the lineage", lambda: lineage.makers(store, _artifact_ids(nodes))) if nodes else None) or {},
        history=runs,
        pages={run.id: path.name for run in runs if (path := page_path(run_dir, run.id)).is_file()},
        missing=reader.missing,
    )


def page_path(run_dir: Path, run: str) -> Path:
    """The page of a run; ML Metadata's names are times with colons."""
    return run_dir / "reports" / ("".join(c if c.isalnum() or c in "-_." else "-" for c in run) + ".html")


def _history(store: MetadataStore, name: str, outcome: Outcome) -> list[Run]:
    """The last runs up to this one, whose status is recorded only after its report is made."""
    runs = history.all_runs(store, name, outcome.run_id, _SHOWN_RUNS)
    return [dataclasses.replace(run, status=outcome.status) if run.id == outcome.run_id else run for run in runs]


def _artifact_ids(nodes: Mapping[str, NodeRun]) -> list[int]:
    return [artifact.id for node in nodes.values() for made in node.outputs.values() for artifact in made]


def _drift(store: MetadataStore, name: str, run_id: str | None, nodes: Mapping[str, NodeRun]) -> Drift | None:
    """Since the last run before this one that had other images."""
    now = lineage.output(nodes, STATISTICS)
    if now is not None:
        for earlier in history.contexts_up_to(store, name, run_id)[-2 : -_SHOWN_RUNS - 2 : -1]:
            then = lineage.output(lineage.node_runs(store, earlier.name), STATISTICS)
            if then is not None and then.id != now.id and Path(then.uri).is_dir():
                return drift(earlier.name, then.uri, now.uri)
    return None


def _data(record: str, nodes: Mapping[str, NodeRun], first: list[str], since: Drift | None) -> Data:
    """`first`: the classes of which samples are wanted even if there are too many classes."""
    counts = ingest_record.COUNTS.read(record)
    duplicates = sorted(
        ingest_record.DUPLICATES.read(record), key=lambda g: (not g.contradicts, not g.leaks, -len(g.paths))
    )
    examples = lineage.output(nodes, ingest_record.EXAMPLES)
    shown = list(dict.fromkeys([*first, *counts.classes]))
    return Data(
        counts=counts,
        rejects=list(itertools.islice(ingest_record.REJECTS.read(record), _SHOWN_REJECTS)),
        duplicates=duplicates[:_SHOWN_DUPLICATES],
        content_sha256=str(examples.properties.get(ingest_record.CONTENT_SHA256, "")) if examples else None,
        samples=thumbnails.samples(split_dir(examples.uri, "train"), shown) if examples else {},
        drift=since,
    )


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
    return Training(
        summary,
        _thinned(values[LOSS]),
        _thinned(values["learning_rate"]),
        search.read_trials(trials.uri) if trials else [],
    )


def _thinned(values: dict[int, float]) -> list[StepValue]:
    points = [StepValue(step, value) for step, value in sorted(values.items())]
    every = len(points) // _POINTS + 1
    return [*points[:-1:every], *points[-1:]]


def _gallery(folder: str) -> list[Mistake]:
    def uri(name: str) -> str:
        return thumbnails.data_uri(Path(folder, name).read_bytes())

    return [
        Mistake(image.prediction, uri(image.original), uri(image.seen), image.attribution and uri(image.attribution))
        for image in gallery.GALLERY_FILE.read(folder).images
    ]
