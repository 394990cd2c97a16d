"""Gathers the facts of a run from ML Metadata and from what its stages left on disk."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from core.artifacts import serving_check
from core.artifacts.predictions import GALLERY_FILE, PREDICTIONS_FILE, Prediction, prediction_of, read_predictions
from pipeline.report import evidence, past_runs, pictures, provenance
from pipeline.report.drift import drift
from pipeline.report.facts import ClassCounts, Data, Drift, Duplicates, Evidence, Facts, Mistake, StepValue, Training
from pipeline.runs import history as runs
from pipeline.runs import lineage
from pipeline.runs.lineage import NodeRun, Output
from pipeline.runs.outcome import Outcome

T = TypeVar("T")

_SHOWN_REJECTS = 200
_SHOWN_DUPLICATES = 100
_POINTS = 300


def collect(home: Path, name: str, outcome: Outcome, settings: dict[str, Any]) -> Facts:
    """Reads all there is of the latest run; what is missing or unreadable is named in `Facts.missing`.

    Args:
        home: the pipeline's folder.
        name: of the pipeline.
        outcome: how the run ended; its `run_id` says which of ML Metadata's runs it is.
        settings: of the run, as plain values.
    """
    reader = _Reader()
    store = run_id = None
    nodes: dict[str, NodeRun] = {}
    if (home / "metadata.sqlite").is_file():
        store = reader.part("ML Metadata", lambda: runs.open_store(home))
    if store is not None:
        run_id = outcome.run_id
        nodes = lineage.node_runs(store, run_id) if run_id else {}
    artifacts = _Artifacts(nodes)
    examples = artifacts.first("ImageExampleGen", "examples")
    predictions = reader.optional(artifacts.file("Predictor", "predictions", PREDICTIONS_FILE), _predictions) or []
    since = reader.part("the drift of the data", lambda: _drift(store, name, run_id, artifacts)) if store else None
    first = evidence.classes(outcome.failures, predictions)
    data = reader.part("the data", lambda: _data(artifacts, examples, since, first))
    return Facts(
        name=name,
        home=home,
        outcome=outcome,
        run_id=run_id,
        made=datetime.now(),
        pushed=artifacts.pushed(),
        settings=settings,
        versions=provenance.versions(),
        hashes=provenance.hashes(),
        data=data,
        training=reader.optional(
            artifacts.file("Trainer", "model_run", "training_summary.json"), lambda path: _training(path, artifacts)
        ),
        gate=reader.optional(artifacts.file("ModelGate", "blessing", "gate.json"), _gate),
        serving=reader.optional(
            artifacts.file(*serving_check.BLESSING, serving_check.SERVING_CHECK.name),
            lambda path: serving_check.SERVING_CHECK.read(path.parent),
        ),
        backbone=reader.json(artifacts.file("BackboneImporter", "backbone", "Format-Serving/backbone.json")),
        features=reader.json(artifacts.file("FeatureExtractor", "features", "features.json")),
        predictions=predictions,
        gallery=reader.optional(artifacts.file("WorstMistakes", "gallery", GALLERY_FILE), _gallery) or [],
        evidence=reader.part(
            "the pictures behind the failures", lambda: _evidence(outcome, predictions, examples, data)
        )
        or [],
        lineage=(
            reader.part("the lineage", lambda: provenance.steps(store, run_id, nodes)) if store and run_id else None
        )
        or [],
        history=(
            reader.part("the history", lambda: past_runs.past_runs(store, name, run_id, outcome.status, home))
            if store
            else None
        )
        or [],
        missing=reader.missing,
    )


class _Reader:
    """Reads parts that may be absent or broken: a report of what is left is better than none."""

    def __init__(self) -> None:
        self.missing: list[str] = []

    def part(self, what: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except Exception as error:  # whatever a damaged artifact raises: it is told on the page, and logged whole
            logging.getLogger(__name__).exception("the report lacks %s", what)
            self.missing.append(f"{what}: {type(error).__name__}: {error}")
            return None

    def optional(self, path: Path | None, read: Callable[[Path], T]) -> T | None:
        """None without a word if the stage left nothing."""
        return None if path is None else self.part(str(path), lambda: read(path))

    def json(self, path: Path | None) -> dict[str, Any] | None:
        return self.optional(path, lambda p: json.loads(p.read_text(encoding="utf-8")))


class _Artifacts:
    """Finds what the nodes that completed left."""

    def __init__(self, nodes: Mapping[str, NodeRun]) -> None:
        self._nodes = nodes

    def first(self, node: str, output: str) -> Output | None:
        run = self._nodes.get(node)
        outputs = run.outputs.get(output, []) if run and run.state in ("complete", "cached") else []
        return outputs[0] if outputs else None

    def file(self, node: str, output: str, name: str) -> Path | None:
        artifact = self.first(node, output)
        return Path(artifact.uri) / name if artifact else None

    def pushed(self) -> str | None:
        """The folder that this run's model was pushed to, by this run or an earlier one; it may be gone."""
        model = self.first("Pusher", "pushed_model")
        return str(model.properties["pushed_destination"]) if model and model.properties.get("pushed") == 1 else None


def _drift(store: Any, name: str, run_id: str | None, artifacts: _Artifacts) -> Drift | None:
    """Since the last run before this one that had other images."""
    now = artifacts.first("StatisticsGen", "statistics")
    if now is None or run_id is None:
        return None
    for earlier in reversed(past_runs.earlier_runs(store, name, run_id)):
        then = _Artifacts(lineage.node_runs(store, earlier)).first("StatisticsGen", "statistics")
        if then is not None and then.id != now.id and Path(then.uri).is_dir():
            return drift(earlier, Path(then.uri), Path(now.uri))
    return None


def _data(artifacts: _Artifacts, examples: Output | None, since: Drift | None, first: list[str]) -> Data | None:
    counts_file = artifacts.file("ImageExampleGen", "rejects", "counts.json")
    if counts_file is None:
        return None
    counts = json.loads(counts_file.read_text(encoding="utf-8"))
    classes = []
    for label, by_split in sorted(counts["classes"].items()):
        splits = {split: number for split, number in by_split.items() if split != "rejected"}
        classes.append(ClassCounts(label, splits, by_split["rejected"]))
    shown = list(dict.fromkeys([*first, *(c.name for c in classes)]))
    duplicates_file = counts_file.parent / "duplicates.jsonl"
    duplicates = [Duplicates(**entry) for entry in _lines(duplicates_file)] if duplicates_file.is_file() else []
    duplicates.sort(key=lambda group: (not group.contradict, len(set(group.splits)) < 2, -len(group.paths)))
    return Data(
        found=counts["found"],
        read=counts["read"],
        rejected=counts["rejected"],
        ignored=counts.get("ignored", 0),
        classes=classes,
        rejects=_lines(counts_file.parent / "rejects.jsonl", _SHOWN_REJECTS),
        content_sha256=(str(examples.properties.get("content_sha256", "")) or None) if examples else None,
        samples=pictures.samples(Path(examples.uri) / "Split-train", shown) if examples else {},
        duplicates=duplicates[:_SHOWN_DUPLICATES],
        drift=since,
    )


def _lines(path: Path, most: int | None = None) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in itertools.islice(file, most)]


def _training(path: Path, artifacts: _Artifacts) -> Training:
    trials = artifacts.file("Tuner", "tuner_results", "tuner_results.json")
    summary = json.loads(path.read_text(encoding="utf-8"))
    import tensorflow as tf  # 9 s, unless the run has loaded it
    from tensorflow.core.util import event_pb2

    from trainer.network.model import LOSS

    values: dict[str, dict[int, float]] = {LOSS: {}, "learning_rate": {}}
    for events in sorted(path.parent.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(events)).as_numpy_iterator():
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                if value.tag in values:
                    values[value.tag][event.step] = value.simple_value  # after a restart the later value counts
    return Training(
        summary,
        _thinned(values[LOSS]),
        _thinned(values["learning_rate"]),
        json.loads(trials.read_text(encoding="utf-8")) if trials else [],
    )


def _thinned(values: dict[int, float]) -> list[StepValue]:
    points = [StepValue(step, value) for step, value in sorted(values.items())]
    every = len(points) // _POINTS + 1
    return [*points[:-1:every], *points[-1:]]


def _gate(path: Path) -> dict[str, Any]:
    verdict = json.loads(path.read_text(encoding="utf-8"))
    if "judged" not in verdict:
        raise ValueError("it was written by an earlier version of the gate; run the pipeline again")
    return verdict


def _predictions(path: Path) -> list[Prediction]:
    with path.open(encoding="utf-8") as file:
        return list(read_predictions(file))


def _gallery(path: Path) -> list[Mistake]:
    mistakes = []
    for entry in json.loads(path.read_text(encoding="utf-8")):
        prediction = prediction_of({field: entry[field] for field in Prediction._fields if field in entry})
        attribution = entry.get("attribution")
        mistakes.append(
            Mistake(
                prediction,
                pictures.from_file(path.parent / entry["original"], f"the image {prediction.path}"),
                pictures.from_file(path.parent / entry["seen"], "as the network saw it"),
                attribution
                and pictures.from_file(path.parent / attribution, f"what spoke for {prediction.predicted}, in orange"),
            )
        )
    return mistakes


def _evidence(
    outcome: Outcome, predictions: list[Prediction], examples: Output | None, data: Data | None
) -> list[Evidence | None]:
    if not predictions or not examples:
        return []
    found = pictures.by_path(Path(examples.uri) / "Split-test", evidence.wanted(outcome.failures, predictions))
    return [evidence.behind(failure, predictions, found, data) for failure in outcome.failures]
