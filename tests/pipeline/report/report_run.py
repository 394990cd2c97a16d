"""A run as its stages leave it, with hostile names, in real ML Metadata; for the tests of the report."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb
from PIL import Image
from tensorflow_metadata.proto.v0 import statistics_pb2

from core.artifacts.predictions import Answer, Prediction
from core.artifacts.serving_check import SERVING_CHECK, Check, ServingReport
from pipeline.runs.outcome import Outcome

EVIL = '<script>alert(1)</script> & "q" $x$ \u202e'
CLASSES = ("cat", EVIL)
NAME = "tests"
SETTINGS = {
    "name": NAME,
    "training": {"steps": 1, "early_stopping": None, "flag": True},
    "evaluation": {
        "slices": ["label"],
        "thresholds": {"accuracy": {"min": 0.9, "max": None, "max_drop": None}},
        "per_slice": {"accuracy": {"min": 0.7, "max": None, "min_examples": 5}},
    },
}


def picture(seed: int, kind: str = "PNG") -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(target, kind)
    return target.getvalue()


def predictions() -> list[Prediction]:
    """Twenty cats, two of them wrong, and ten of the other class, four of them wrong: the six pictures that are dark.

    The model before had all right but the first.
    """
    made = []
    for number in range(30):
        label = CLASSES[number >= 20]
        right = number not in (0, 1, 20, 21, 22, 23)
        predicted = label if right else CLASSES[number < 20]
        before = Answer(label if number != 0 else predicted, 0.8, 0.8, 1)
        slices = {"format": "png", "brightness": "bright" if right else "dark"}
        probability = 0.95 if right else 0.05
        path = f"{label}/{number}.png"
        made.append(Prediction(path, "ab", label, predicted, 0.95, probability, slices, 1 if right else 2, before))
    return made


def write_run(home: Path, status: str = "refused", stages: int = 99) -> Outcome:
    """Writes artifacts and ML Metadata of one more run.

    Args:
        home: the pipeline's folder.
        status: pushed, refused or failed.
        stages: how many stages ended; the next one has failed.
    """
    home.mkdir(parents=True, exist_ok=True)
    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = str(home / "metadata.sqlite")
    config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    ledger = _Ledger(MetadataStore(config), home)
    blessed = status == "pushed"
    pushed = home / "serving" / "17"
    done = [
        ("ImageExampleGen", {"examples": {"examples_test": 30, "content_sha256": "5ad0"}, "rejects": {}}),
        ("StatisticsGen", {"statistics": {}}),
        ("BackboneImporter", {"backbone": {}}),
        ("Tuner", {"tuner_results": {}}),
        ("Trainer", {"model": {}, "model_run": {}}),
        ("Predictor", {"predictions": {}}),
        ("ModelGate", {"blessing": {"blessed": int(blessed)}}),
        ("ServingCheck", {"blessing": {"blessed": 1}}),
        (
            "Pusher",
            {"pushed_model": {"pushed": int(blessed), "pushed_version": "17", "pushed_destination": str(pushed)}},
        ),
        ("WorstMistakes", {"gallery": {}}),
    ][:stages]
    for node, outputs in done:
        folders = ledger.execute(node, outputs)
        _WRITERS.get(node, lambda folders: None)(folders)
    if status == "failed":
        ledger.execute("Broken", {}, pb.Execution.FAILED)
    if blessed:
        pushed.mkdir(parents=True, exist_ok=True)
    ended = [{"id": node, "seconds": 1.5, "cached": node == "BackboneImporter"} for node, _ in done]
    return Outcome(
        status=status,
        exit_code={"pushed": 0, "refused": 3, "failed": 2}[status],
        pipeline_root=str(home / "artifacts"),
        run_id=ledger.run_id if done or status == "failed" else None,
        pushed_model=str(pushed) if blessed else None,
        seconds=83.0,
        peak_rss_mb=1234,
        images={"read": 60, "rejected": 1, "train": 20, "eval": 10, "test": 30, "computed": 7, "reused": 23}
        if done
        else {},
        spans=[{"span": 8, "version": None, "folder": "day-8"}, {"span": 9, "version": None, "folder": "day-9"}],
        warm_start={
            "model": "/models/7",
            "head": "rebuilt",
            "base_layers": 4,
            "why_not": f"the classes {EVIL} changed",
        },
        failures={"refused": _FAILURES, "failed": [{"message": f"no {EVIL}\nsecond line", "stage": "Broken"}]}.get(
            status, []
        ),
        stages=ended,
        log=str(home / "logs" / "20260102-030405.log"),
    )


class _Ledger:
    """Writes one run into ML Metadata the way TFX's launcher does."""

    def __init__(self, store: MetadataStore, home: Path) -> None:
        self._store, self._home = store, home
        number = len(store.get_contexts_by_type("pipeline_run")) if "pipeline_run" in _type_names(store) else 0
        self._last: pb.Artifact | None = None
        self._pipeline = self._context("pipeline", NAME)
        self.run_id = f"2026-01-0{number + 1}T03:04:05.678"
        self._run = self._context("pipeline_run", self.run_id)
        store.put_parent_contexts([pb.ParentContext(parent_id=self._pipeline, child_id=self._run)])

    def execute(
        self, node: str, outputs: dict[str, dict[str, Any]], state: int = pb.Execution.COMPLETE
    ) -> dict[str, Path]:
        kind = self._store.put_execution_type(pb.ExecutionType(name=node))
        contexts = [pb.Context(id=c) for c in (self._pipeline, self._run, self._context("node", f"{NAME}.{node}"))]
        contexts = self._store.get_contexts_by_id([c.id for c in contexts])
        pairs, folders = [], {}
        for key, properties in outputs.items():
            folder = self._home / "artifacts" / node / key / str(self._run)
            folder.mkdir(parents=True)
            artifact = pb.Artifact(type_id=self._store.put_artifact_type(pb.ArtifactType(name=f"{node}.{key}")))
            artifact.uri = str(folder)
            for name, value in properties.items():
                kind_of = "int_value" if isinstance(value, int) else "string_value"
                setattr(artifact.custom_properties[name], kind_of, value)
            event = pb.Event(type=pb.Event.OUTPUT)
            event.path.steps.add().key = key
            pairs.append((artifact, event))
            folders[key] = folder
        if self._last is not None:  # every node reads what the one before it left
            read = pb.Event(type=pb.Event.INPUT)
            read.path.steps.add().key = "input"
            pairs.append((self._last, read))
        execution = pb.Execution(type_id=kind, last_known_state=state)
        _, made, _ = self._store.put_execution(execution, pairs, contexts, reuse_context_if_already_exist=True)
        if made:
            (self._last,) = self._store.get_artifacts_by_id(made[:1])
        return folders

    def _context(self, kind: str, name: str) -> int:
        found = self._store.get_context_by_type_and_name(kind, name) if kind in _type_names(self._store) else None
        if found is not None:
            return found.id
        type_id = self._store.put_context_type(pb.ContextType(name=kind))
        return self._store.put_contexts([pb.Context(type_id=type_id, name=name)])[0]


def _type_names(store: MetadataStore) -> set[str]:
    return {kind.name for kind in store.get_context_types()}


def _write_images(folders: dict[str, Path]) -> None:
    classes = {name: {"train": 10, "eval": 5, "test": 10 if name == EVIL else 20, "rejected": 0} for name in CLASSES}
    counts = {"found": 61, "read": 60, "rejected": 1, "train": 20, "eval": 10, "test": 30, "classes": classes}
    (folders["rejects"] / "counts.json").write_text(json.dumps(counts))
    reject = {"path": f"cat/{EVIL}.png", "stage": "decode", "reason": "truncated"}
    (folders["rejects"] / "rejects.jsonl").write_text(json.dumps(reject) + "\n")
    same = [
        {"kind": "near", "paths": ["cat/1.png", "cat/2.png"], "labels": ["cat", "cat"], "splits": ["train", "train"]},
        {"kind": "identical", "paths": ["cat/3.png", "b.png"], "labels": ["cat", EVIL], "splits": ["train", "test"]},
    ]
    (folders["rejects"] / "duplicates.jsonl").write_text("".join(json.dumps(group) + "\n" for group in same))
    train = [(f"{CLASSES[n % 2]}/{100 + n}.png", CLASSES[n % 2]) for n in range(20)]
    for split, images in (("train", train), ("test", [(p.path, p.label) for p in predictions()])):
        (folders["examples"] / f"Split-{split}").mkdir()
        with tf.io.TFRecordWriter(str(folders["examples"] / f"Split-{split}" / "data-00000-of-00001")) as writer:
            for number, (path, label) in enumerate(images):
                values = {"image/encoded": picture(number), "image/path": path.encode(), "label": label.encode()}
                features = {k: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])) for k, v in values.items()}
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def _write_statistics(folders: dict[str, Path]) -> None:
    """Of a train split that grows with every run, and gets darker."""
    run = int(folders["statistics"].name)
    listed = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = listed.datasets.add(num_examples=20 + run)
    for name, counts in (("label", {"cat": 10, EVIL: 10}), ("slice/brightness", {"dark": run, "bright": 20})):
        feature = dataset.features.add(name=name)
        for value, count in counts.items():
            feature.string_stats.rank_histogram.buckets.add(label=value, sample_count=count)
    width = statistics_pb2.NumericStatistics(median=40 + run, std_dev=10)
    dataset.features.add(name="image/width").num_stats.CopyFrom(width)
    (folders["statistics"] / "Split-train").mkdir()
    (folders["statistics"] / "Split-train" / "FeatureStats.pb").write_bytes(listed.SerializeToString())


def _write_trials(folders: dict[str, Path]) -> None:
    trials = [{"trial_id": str(n), "score": 0.5 + n, "hidden_units": "64" if n else "", "dropout": 0.2} for n in (0, 1)]
    (folders["tuner_results"] / "tuner_results.json").write_text(json.dumps(trials))


def _write_backbone(folders: dict[str, Path]) -> None:
    record = {"weights": "imagenet", "source": "random", "random": True, "sha256": "ab", "image_size": 75}
    (folders["backbone"] / "Format-Serving").mkdir()
    (folders["backbone"] / "Format-Serving" / "backbone.json").write_text(json.dumps(record))


def _write_training(folders: dict[str, Path]) -> None:
    evaluations = [{"step": n, "loss": 1 / n, "accuracy": 0.8} for n in (1, 2)]
    summary = {
        "steps": 2,
        "max_steps": 2,
        "stopped_early": False,
        "seconds": 3.0,
        "best": evaluations[1],
        "evaluations": evaluations,
        "classes": list(CLASSES),
        "rules": [{"first": "a", "last": "b", "layers": 2, "multiplier": 0.0, "rule": "<.*>", "parameters": 5}],
        "parameters": {"trained": 7, "head": 7, "frozen": 5},
    }
    (folders["model_run"] / "training_summary.json").write_text(json.dumps(summary))
    with tf.Graph().as_default():
        writer = tf.compat.v1.summary.FileWriter(str(folders["model_run"]))
        for step in (1, 2):
            values = {"loss": 5.0 / step, "average_loss": 2.0 / step, "learning_rate": 0.01 / step}
            value = [tf.compat.v1.Summary.Value(tag=tag, simple_value=v) for tag, v in values.items()]
            writer.add_summary(tf.compat.v1.Summary(value=value), step)
        writer.close()


def _write_predictions(folders: dict[str, Path]) -> None:
    (folders["predictions"] / "predictions.jsonl").write_text("".join(f"{p.to_json()}\n" for p in predictions()))


def _write_gallery(folders: dict[str, Path]) -> None:
    folder = folders["gallery"]
    entries = []
    for number, prediction in enumerate(p for p in predictions() if not p.right):
        names = {what: f"{number}_{what}.jpg" for what in ("original", "seen", "attribution")[: 3 if number < 2 else 2]}
        for name in names.values():
            (folder / name).write_bytes(picture(number, "JPEG"))
        entries.append(json.loads(prediction.to_json()) | names)
    (folder / "gallery.json").write_text(json.dumps(entries))


_FAILURES = [
    {
        "metric": "accuracy",
        "slice": f"label={EVIL}",
        "value": 0.6,
        "low": 0.313,
        "high": 0.832,
        "bound": 0.7,
        "kind": "per_slice_min",
        "examples": 10,
        "p": 0.01,
        "mistakes": 4,
        "pictures": [f"{EVIL}/{n}.png" for n in (23, 22, 21, 20)],
        "message": f"accuracy is 0.6000 on the slice label={EVIL} (10 test images); at least 0.7 is demanded",
    }
]


def spread(value: float | None, around: float = 0.1) -> dict[str, float | None]:
    """A value with its limits, as the gate writes it."""
    return {"value": value, "low": value and value - around, "high": value and value + around}


def measured(name: str, examples: int, accuracy: float) -> dict[str, Any]:
    """A slice, as the gate writes it."""
    then = {"accuracy": spread(0.8), "cross_entropy": spread(0.4)}
    now = {"accuracy": spread(accuracy), "cross_entropy": spread(None)}
    change = {"accuracy": spread(round(accuracy - 0.8, 3), 0.15), "cross_entropy": None}
    right = round(accuracy * examples)
    counts = {CLASSES[-1]: right, CLASSES[0]: examples - right}
    return {
        "slice": name,
        "examples": examples,
        "metrics": now,
        "baseline": then,
        "change": change,
        "classes": [
            {"class": CLASSES[-1], "examples": examples, "metrics": _per_class()},
            {"class": CLASSES[0], "examples": 0, "metrics": _per_class()},
        ],
        "confusion": [{"class": CLASSES[-1], "predicted": told, "examples": n} for told, n in counts.items()],
    }


def _per_class() -> dict[str, Any]:
    return {metric: spread(None if metric == "auc" else 0.5) for metric in ("precision", "recall", "f1", "auc")}


def judged(where: str, kind: str, state: str, value: float) -> dict[str, Any]:
    """A bound of accuracy, as the gate writes it."""
    found = {"metric": "accuracy", "slice": where, "kind": kind, "bound": 0.7, "examples": 10, "p": 0.01}
    return found | spread(value) | {"state": state}


def _write_gate(folders: dict[str, Path]) -> None:
    verdict = {
        "blessed": False,
        "confidence": 0.95,
        "on_doubt": "pass",
        "not_compared": None,
        "metrics": {
            "accuracy": {"overall": 0.8, "low": 0.627, "high": 0.905, "baseline": 0.9, "change": spread(-0.1, 0.05)},
            "cross_entropy": {"overall": None, "low": None, "high": None, "baseline": 0.1, "change": None},
        },
        "slices": [measured("label=cat", 20, 0.9), measured(f"label={EVIL}", 10, 0.6)],
        "classes": [{"class": name, "examples": 10, "metrics": _per_class()} for name in CLASSES],
        "confusion": {"classes": list(CLASSES), "counts": [[18, 2], [4, 6]]},
        "judged": [
            judged("overall", "min", "doubt", 0.8),
            judged("label=cat", "per_slice_min", "kept", 0.9),
            judged(f"label={EVIL}", "per_slice_min", "broken", 0.6),
        ],
        "failures": _FAILURES,
        "notes": [],
    }
    (folders["blessing"] / "gate.json").write_text(json.dumps(verdict))


def _write_serving(folders: dict[str, Path]) -> None:
    SERVING_CHECK.write(folders["blessing"], ServingReport(True, None, [Check("load", True, "", 2.5)], 3.5))


_WRITERS = {
    "ImageExampleGen": _write_images,
    "StatisticsGen": _write_statistics,
    "Tuner": _write_trials,
    "BackboneImporter": _write_backbone,
    "Trainer": _write_training,
    "Predictor": _write_predictions,
    "WorstMistakes": _write_gallery,
    "ModelGate": _write_gate,
    "ServingCheck": _write_serving,
}
