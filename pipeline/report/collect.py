"""Gathers the facts of a run from ML Metadata and from what its stages left on disk."""

from __future__ import annotations

import collections
import hashlib
import importlib.metadata
import itertools
import json
import logging
import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from components.prediction import GALLERY_FILE, PREDICTIONS_FILE, Prediction, prediction_of, read_predictions
from components.slice_result import OVERALL
from pipeline import lineage, runs
from pipeline.code_hash import code_hash
from pipeline.lineage import NodeRun, Output
from pipeline.outcome import Outcome
from pipeline.report import history, pictures
from pipeline.report.facts import ClassCounts, Data, Evidence, Facts, Lineage, Mistake, StepValue, Training

T = TypeVar("T")

_PACKAGES = (
    "tfx",
    "tensorflow",
    "tensorflow-estimator",
    "keras",
    "tensorflow-transform",
    "tensorflow-model-analysis",
    "tensorflow-data-validation",
    "apache-beam",
    "ml-metadata",
    "numpy",
    "pillow",
)
_LOCK = Path(__file__).resolve().parents[2] / "uv.lock"
_SHOWN_REJECTS = 200
_SLICES_WITH_PICTURES, _PICTURES = 12, 6
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
    run_id, nodes, past = None, {}, []
    if (home / "metadata.sqlite").is_file():
        store = reader.part("ML Metadata", lambda: runs.open_store(home))
        if store is not None:
            run_id = outcome.run_id
            nodes = lineage.node_runs(store, run_id) if run_id else {}
            past = reader.part("the history", lambda: history.past_runs(store, name, run_id, home)) or []
    artifacts = _Artifacts(nodes)
    examples = artifacts.first("ImageExampleGen", "examples")
    gate = reader.json(artifacts.file("ModelGate", "blessing", "gate.json"))
    predictions = reader.optional(artifacts.file("TestPredictions", "predictions", PREDICTIONS_FILE), _predictions)
    return Facts(
        name=name,
        home=home,
        outcome=outcome,
        run_id=run_id,
        made=datetime.now(),
        pushed=artifacts.pushed(),
        settings=settings,
        versions=_versions(),
        hashes=_hashes(),
        data=reader.part("the data", lambda: _data(artifacts, examples)),
        training=reader.optional(artifacts.file("Trainer", "model_run", "training_summary.json"), _training),
        gate=gate,
        serving=reader.json(artifacts.file("ServingCheck", "blessing", "serving_check.json")),
        backbone=reader.json(artifacts.file("BackboneImporter", "backbone", "Format-Serving/backbone.json")),
        features=reader.json(artifacts.file("FeatureExtractor", "features", "features.json")),
        predictions=predictions or [],
        gallery=reader.optional(artifacts.file("WorstMistakes", "gallery", GALLERY_FILE), _gallery) or [],
        evidence=reader.part("the pictures behind the failures", lambda: _evidence(outcome, predictions, examples))
        or {},
        lineage=artifacts.all(),
        history=past,
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

    def all(self) -> list[Lineage]:
        return [
            Lineage(run.id, run.state, key, artifact.id, artifact.uri)
            for run in self._nodes.values()
            for key, artifacts in sorted(run.outputs.items())
            for artifact in artifacts
        ]


def _data(artifacts: _Artifacts, examples: Output | None) -> Data | None:
    counts_file = artifacts.file("ImageExampleGen", "rejects", "counts.json")
    if counts_file is None:
        return None
    counts = json.loads(counts_file.read_text(encoding="utf-8"))
    with (counts_file.parent / "rejects.jsonl").open(encoding="utf-8") as file:
        rejects = [json.loads(line) for line in itertools.islice(file, _SHOWN_REJECTS)]
    classes = []
    for label, by_split in sorted(counts["classes"].items()):
        splits = {split: number for split, number in by_split.items() if split != "rejected"}
        classes.append(ClassCounts(label, splits, by_split["rejected"]))
    return Data(
        found=counts["found"],
        read=counts["read"],
        rejected=counts["rejected"],
        classes=classes,
        rejects=rejects,
        fingerprint=str(examples.properties.get("input_fingerprint")) if examples else None,
        samples=pictures.samples(Path(examples.uri) / "Split-train", [c.name for c in classes]) if examples else {},
    )


def _training(path: Path) -> Training:
    summary = json.loads(path.read_text(encoding="utf-8"))
    import tensorflow as tf  # 9 s, unless the run has loaded it
    from tensorflow.core.util import event_pb2

    values: dict[str, dict[int, float]] = {"loss": {}, "learning_rate": {}}
    for events in sorted(path.parent.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(events)).as_numpy_iterator():
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                if value.tag in values:
                    values[value.tag][event.step] = value.simple_value  # after a restart the later value counts
    return Training(summary, *(_thinned(values[tag]) for tag in ("loss", "learning_rate")))


def _thinned(values: dict[int, float]) -> list[StepValue]:
    points = [StepValue(step, value) for step, value in sorted(values.items())]
    every = len(points) // _POINTS + 1
    return [*points[:-1:every], *points[-1:]]


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


def _evidence(outcome: Outcome, predictions: list[Prediction] | None, examples: Output | None) -> dict[str, Evidence]:
    """The mistakes on every slice that a failure names, with pictures for the first dozen slices."""
    if not predictions or not examples:
        return {}
    slices = list(dict.fromkeys(f["slice"] for f in outcome.failures if f.get("slice")))
    members = {name: [p for p in predictions if name == OVERALL or p.is_in(name)] for name in slices}
    worst = {
        name: sorted((p for p in group if not p.right), key=lambda p: p.label_probability)
        for name, group in members.items()
    }
    wanted = {p.path for name in slices[:_SLICES_WITH_PICTURES] for p in worst[name][:_PICTURES]}
    found = pictures.by_path(Path(examples.uri) / "Split-test", wanted)
    evidence = {}
    for name in slices:
        taken = collections.Counter((p.label, p.predicted) for p in worst[name])
        evidence[name] = Evidence(
            count=len(members[name]),
            mistakes=len(worst[name]),
            taken_for=[(*pair, count) for pair, count in sorted(taken.items(), key=lambda item: (-item[1], item[0]))],
            confidence=statistics.median(p.probability for p in worst[name]) if worst[name] else None,
            pictures=[(p, found[p.path]) for p in worst[name][:_PICTURES] if p.path in found],
        )
    return evidence


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        found[package] = importlib.metadata.version(package)
    return found | {"platform": platform.platform(), "processors": str(os.cpu_count())}


def _hashes() -> dict[str, str]:
    hashes = {"code": code_hash("pipeline.__main__")}
    if _LOCK.is_file():
        hashes["lock"] = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:16]
        if commit := _commit():
            hashes["commit"] = commit
    return hashes


def _commit() -> str | None:
    """Of the checkout the code runs from, with `-dirty` if it was changed; None where it is no checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(_LOCK.parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
