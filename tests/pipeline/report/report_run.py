"""A run as its stages leave it, with hostile names, in real ML Metadata; for the tests of the report."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb
from PIL import Image
from tensorflow_metadata.proto.v0 import statistics_pb2

from core.artifacts import backbone, gallery, ingest_record, search, serving_check, training_summary, verdict
from core.artifacts.backbone import BackboneRecord
from core.artifacts.base import Artifact
from core.artifacts.exported_model import MODEL, serving_dir
from core.artifacts.gallery import Gallery, GalleryImage, GalleryNeighbor
from core.artifacts.ingest_record import ClassCounts, DuplicateGroup, IngestCounts, Reject, Span
from core.artifacts.last_run import Failure, Images, Outcome, Stage, Status
from core.artifacts.nodes import STATISTICS
from core.artifacts.predictions import PREDICTIONS, PREDICTIONS_FILE, Classification, Prediction
from core.artifacts.pushed_model import PUSHED_MODEL, WAITS
from core.artifacts.serving_check import Check, ServingReport
from core.artifacts.training_summary import (
    Abstention,
    Calibration,
    Evaluation,
    LayerRange,
    NoveltyImages,
    Parameters,
    TrainingSummary,
    WarmStart,
)
from core.artifacts.verdict import (
    ClassMetrics,
    Confusion,
    JudgedBound,
    Range,
    Regression,
    Regressions,
    SliceMetrics,
    Verdict,
)
from pipeline.report.collect import ReportData

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


def encoded_image(seed: int, kind: str = "PNG") -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(target, kind)
    return target.getvalue()


def predictions() -> list[Prediction]:
    """Twenty cats, two of them wrong, and ten of the other class, four of them wrong: the six images that are dark.

    The model before had all right but the first.
    """
    made = []
    for number in range(30):
        label = CLASSES[number >= 20]
        right = number not in (0, 1, 20, 21, 22, 23)
        predicted = label if right else CLASSES[number < 20]
        before = Classification(label if number != 0 else predicted, 0.8, 0.8, 1)
        slices = {"format": "png", "brightness": "bright" if right else "dark"}
        probability = 0.95 if right else 0.05
        path = f"{label}/{number}.png"
        made.append(Prediction(predicted, 0.95, probability, 1 if right else 2, path, "ab", label, slices, before))
    return made


def write_run(run_dir: Path, status: Status = "refused", stages: int = 99, images: str = "5ad0") -> Outcome:
    """Writes artifacts and ML Metadata of one more run.

    Args:
        run_dir: the pipeline's folder.
        status: pushed, waiting, refused or failed.
        stages: how many stages ended; the next one has failed.
        images: the hash of its images.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = str(run_dir / "metadata.sqlite")
    config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    ledger = _Ledger(MetadataStore(config), run_dir)
    blessed = status in ("pushed", "waiting")
    pushed = run_dir / "serving" / (".waiting" if status == "waiting" else "") / "17"
    properties = {
        ingest_record.EXAMPLES: {ingest_record.count_property("test"): 30, ingest_record.CONTENT_SHA256: images},
        verdict.BLESSING: {"blessed": int(blessed)},
        serving_check.BLESSING: {"blessed": 1},
        PUSHED_MODEL: {WAITS: str(pushed)}
        if status == "waiting"
        else {"pushed": int(blessed), "pushed_version": "17", "pushed_destination": str(pushed)},
    }
    done = _STAGES[:stages]
    for outputs, write in done:
        folders = ledger.execute(outputs[0].node, {a.output: properties.get(a, {}) for a in outputs})
        if write:
            write(*folders)
    if status == "failed":
        ledger.execute("Broken", {}, pb.Execution.FAILED)
    if blessed:
        pushed.mkdir(parents=True, exist_ok=True)
    return Outcome(
        status=status,
        exit_code={"pushed": 0, "waiting": 0, "refused": 3, "failed": 2}[status],
        pipeline_root=str(run_dir / "artifacts"),
        run_id=ledger.run_id if done or status == "failed" else None,
        pushed_model=str(pushed) if status == "pushed" else None,
        waiting=str(pushed) if status == "waiting" else None,
        seconds=83.0,
        peak_rss_mb=1234,
        images=Images(62, 0, 1, 1, 60, 20, 10, 30, 0, computed=7, reused=23) if done else None,
        spans=[Span(8, None, "day-8"), Span(9, None, "day-9")],
        warm_start=WarmStart("/models/7", "rebuilt", 4, f"the classes {EVIL} changed", None),
        failures={
            "refused": [Failure(**dataclasses.asdict(FAILURE))],
            "failed": [Failure(f"no {EVIL}\nsecond line", stage="Broken")],
        }.get(status, []),
        stages=[Stage(outputs[0].node, 1.5, None, cached=outputs[0] == backbone.BACKBONE) for outputs, _ in done],
        log=str(run_dir / "logs" / "20260102-030405.log"),
    )


class _Ledger:
    """Writes one run into ML Metadata the way TFX's launcher does."""

    def __init__(self, store: MetadataStore, run_dir: Path) -> None:
        self._store, self._run_dir = store, run_dir
        number = len(store.get_contexts_by_type("pipeline_run")) if "pipeline_run" in _type_names(store) else 0
        self._last: pb.Artifact | None = None
        self._pipeline = self._context("pipeline", NAME)
        self.run_id = f"2026-01-0{number + 1}T03:04:05.678"
        self._run = self._context("pipeline_run", self.run_id)
        store.put_parent_contexts([pb.ParentContext(parent_id=self._pipeline, child_id=self._run)])

    def execute(self, node: str, outputs: dict[str, dict[str, Any]], state: int = pb.Execution.COMPLETE) -> list[Path]:
        """The folders of the outputs, in order."""
        kind = self._store.put_execution_type(pb.ExecutionType(name=node))
        contexts = [pb.Context(id=c) for c in (self._pipeline, self._run, self._context("node", f"{NAME}.{node}"))]
        contexts = self._store.get_contexts_by_id([c.id for c in contexts])
        pairs, folders = [], []
        for key, properties in outputs.items():
            folder = self._run_dir / "artifacts" / node / key / str(self._run)
            folder.mkdir(parents=True)
            artifact = pb.Artifact(type_id=self._store.put_artifact_type(pb.ArtifactType(name=f"{node}.{key}")))
            artifact.uri = str(folder)
            for name, value in properties.items():
                kind_of = "int_value" if isinstance(value, int) else "string_value"
                setattr(artifact.custom_properties[name], kind_of, value)
            event = pb.Event(type=pb.Event.OUTPUT)
            event.path.steps.add().key = key
            pairs.append((artifact, event))
            folders.append(folder)
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


def _write_images(examples: Path, record: Path) -> None:
    counts = IngestCounts(
        found=65,
        ignored=3,
        rejected=1,
        left_out=1,
        read=60,
        splits={"train": 20, "eval": 10, "test": 30},
        duplicates=2,
        layout="class folders",
        given=[],
        classes={
            name: ClassCounts({"train": 10, "eval": 5, "test": 10 if name == EVIL else 20}, 0) for name in CLASSES
        },
        ignored_by={"beside a picture of its name: .json": 2, f"data.ignore: {EVIL}": 1},
        linked_to=["/store"],
    )
    ingest_record.COUNTS.write(record, counts)
    ignored = [Reject(f"cat/{i}.json", "cat", "find", "beside a picture of its name: .json") for i in range(2)]
    ignored.append(Reject(f"{EVIL}/", "", "find", f"data.ignore: {EVIL}"))
    ingest_record.IGNORED.write(record, ignored)
    ingest_record.REJECTS.write(record, [Reject(f"cat/{EVIL}.png", "cat", "decode", "truncated")])
    reason = f"the same image has 2 labels: cat (cat/{EVIL}.gif), {EVIL} (b.gif)"
    ingest_record.LEFT_OUT.write(record, [Reject(f"cat/{EVIL}.gif", "cat", "contradicting", reason)])
    groups = [
        DuplicateGroup("near", ["cat/1.png", "cat/2.png"], ["cat", "cat"], ["train", "train"]),
        DuplicateGroup("identical", ["cat/3.png", "b.png"], ["cat", EVIL], ["train", "test"]),
    ]
    ingest_record.DUPLICATES.write(record, groups)
    train = [(f"{CLASSES[n % 2]}/{100 + n}.png", CLASSES[n % 2]) for n in range(20)]
    for split, images in (("train", train), ("test", [(p.path, p.label) for p in predictions()])):
        (examples / f"Split-{split}").mkdir()
        with tf.io.TFRecordWriter(str(examples / f"Split-{split}" / "data-00000-of-00001")) as writer:
            for number, (path, label) in enumerate(images):
                values = {"image/encoded": encoded_image(number), "image/path": path.encode(), "label": label.encode()}
                writer.write(_example(values))


def _example(values: dict[str, bytes]) -> bytes:
    features = {k: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])) for k, v in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _write_statistics(folder: Path) -> None:
    """Of a train split that grows with every run, and gets darker."""
    run = int(folder.name)
    listed = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = listed.datasets.add(num_examples=20 + run)
    for name, counts in (("label", {"cat": 10, EVIL: 10}), ("slice/brightness", {"dark": run, "bright": 20})):
        feature = dataset.features.add(name=name)
        for value, count in counts.items():
            feature.string_stats.rank_histogram.buckets.add(label=value, sample_count=count)
    width = statistics_pb2.NumericStatistics(median=40 + run, std_dev=10)
    dataset.features.add(name="image/width").num_stats.CopyFrom(width)
    (folder / "Split-train").mkdir()
    (folder / "Split-train" / "FeatureStats.pb").write_bytes(listed.SerializeToString())


def _write_trials(folder: Path) -> None:
    trials = [{"trial_id": str(n), "score": 0.5 + n, "hidden_units": "64" if n else "", "dropout": 0.2} for n in (0, 1)]
    (folder / "tuner_results.json").write_text(json.dumps(trials))  # as TFX writes it


BACKBONE = BackboneRecord("imagenet", "random", True, "ab", 75)


def _write_backbone(folder: Path) -> None:
    directory = Path(serving_dir(str(folder)))
    directory.mkdir()
    backbone.RECORD.write(directory, BACKBONE)


def _write_training(_: Path, folder: Path) -> None:
    evaluations = [Evaluation(n, 1 / n, 0.8) for n in (1, 2)]
    summary = TrainingSummary(
        steps=2,
        max_steps=2,
        stopped_early=False,
        seconds=3.0,
        best=evaluations[1],
        evaluations=evaluations,
        calibration=Calibration(1.5, 40, 0.6, 0.5),
        novelty=NoveltyImages(300, 40),
        abstention=Abstention(0.6, 0.99, 40, 36, 35),
        classes=list(CLASSES),
        class_weights=None,
        cut="pooled",
        rules=[LayerRange("a", "b", 2, 0.0, "<.*>", 5)],
        trained_layers={},
        parameters=Parameters(7, 7, 5),
        backbone=BACKBONE,
        warm_start=None,
        notes=[],
    )
    training_summary.SUMMARY.write(folder, summary)
    with tf.Graph().as_default():
        writer = tf.compat.v1.summary.FileWriter(str(folder))
        for step in (1, 2):
            values = {"loss": 5.0 / step, "average_loss": 2.0 / step, "learning_rate": 0.01 / step}
            value = [tf.compat.v1.Summary.Value(tag=tag, simple_value=v) for tag, v in values.items()]
            writer.add_summary(tf.compat.v1.Summary(value=value), step)
        writer.close()


def _write_predictions(folder: Path) -> None:
    PREDICTIONS_FILE.write(folder, predictions())


def _write_gallery(folder: Path) -> None:
    images = []
    for number, prediction in enumerate(p for p in predictions() if not p.right):
        names = [f"{number}_{what}.jpg" for what in ("original", "seen", "attribution")]
        for name in names:
            (folder / name).write_bytes(encoded_image(number, "JPEG"))
        images.append(GalleryImage(prediction, *names, [GalleryNeighbor(f"{EVIL}/7.png", EVIL, 0.93, names[0])]))
    gallery.GALLERY_FILE.write(folder, Gallery(images))


FAILURE = verdict.Failure(
    setting="per_slice.accuracy.min",
    metric="accuracy",
    slice=f"label={EVIL}",
    value=0.6,
    low=0.313,
    high=0.832,
    bound=0.7,
    kind="per_slice_min",
    examples=10,
    p=0.01,
    mistakes=4,
    images=[f"{EVIL}/{n}.png" for n in (23, 22, 21, 20)],
    message=f"accuracy is 0.6000 on the slice label={EVIL} (10 test images); at least 0.7 is demanded",
)


def spread(value: float | None, around: float = 0.1) -> Range:
    """A value with its limits, as the gate writes it."""
    return Range(value, value and value - around, value and value + around)


def measured(name: str, examples: int, accuracy: float) -> SliceMetrics:
    """A slice, as the gate writes it."""
    right = round(accuracy * examples)
    return SliceMetrics(
        slice=name,
        examples=examples,
        metrics={"accuracy": spread(accuracy), "cross_entropy": spread(None)},
        baseline={"accuracy": spread(0.8), "cross_entropy": spread(0.4)},
        change={"accuracy": spread(round(accuracy - 0.8, 3), 0.15), "cross_entropy": None},
        classes=[class_metrics(EVIL, examples), class_metrics("cat", 0)],
        confusions=[Confusion(EVIL, EVIL, right), Confusion(EVIL, "cat", examples - right)],
    )


def class_metrics(name: str, examples: int) -> ClassMetrics:
    """A class, as the gate writes it."""
    return ClassMetrics(name, examples, spread(0.5), spread(0.5), spread(0.5), spread(None))


def judged(group: str, name: str, state: Literal["broken", "doubt", "kept"], value: float) -> JudgedBound:
    """A lower bound of accuracy, as the gate writes it."""
    return JudgedBound(f"{group}.accuracy.min", "accuracy", name, 0.7, 10, spread(value), 0.01, state)


def _write_verdict(folder: Path) -> None:
    overall = SliceMetrics(
        slice=verdict.OVERALL,
        examples=30,
        metrics={"accuracy": Range(0.8, 0.627, 0.905), "cross_entropy": Range(None)},
        baseline={"accuracy": Range(0.9), "cross_entropy": Range(0.1)},
        change={"accuracy": spread(-0.1, 0.05), "cross_entropy": None},
        classes=[class_metrics(name, 10) for name in CLASSES],
        confusions=[
            Confusion("cat", "cat", 18),
            Confusion("cat", EVIL, 2),
            Confusion(EVIL, "cat", 4),
            Confusion(EVIL, EVIL, 6),
        ],
    )
    found = Verdict(
        blessed=False,
        confidence=0.95,
        on_doubt="pass",
        not_compared=None,
        overall=overall,
        slices=[measured("label=cat", 20, 0.9), measured(f"label={EVIL}", 10, 0.6)],
        judged=[
            judged("thresholds", verdict.OVERALL, "doubt", 0.8),
            judged("per_slice", "label=cat", "kept", 0.9),
            judged("per_slice", f"label={EVIL}", "broken", 0.6),
        ],
        failures=[FAILURE],
        notes=[],
        regressions=Regressions(
            "/past",
            5,
            0,
            [
                Regression(f"{EVIL}/x.png", EVIL, "cat", 0.9, EVIL),
                Regression("cat/y.png", "cat", "", 0.0, "cat", "the model cannot read it"),
                Regression("cat/z.png", "cat", reason="it is cut short"),
            ],
            "evaluation.regressions: 3 of 5 images",
        ),
    )
    verdict.VERDICT.write(folder, found)


def _write_regressions(folder: Path) -> None:
    (folder / "Split-train").mkdir()
    with tf.io.TFRecordWriter(str(folder / "Split-train" / "data-00000-of-00001")) as writer:
        values = {"image/encoded": encoded_image(3), "image/path": f"{EVIL}/x.png".encode(), "label": EVIL.encode()}
        writer.write(_example(values))


def _write_serving(folder: Path) -> None:
    checks = [Check("load", True, "")]
    serving_check.SERVING_CHECK.write(folder, ServingReport(True, None, checks, process_seconds=1.0))


_STAGES: list[tuple[tuple[Artifact, ...], Callable[..., None] | None]] = [
    ((ingest_record.EXAMPLES, ingest_record.RECORD), _write_images),
    ((STATISTICS,), _write_statistics),
    ((backbone.BACKBONE,), _write_backbone),
    ((search.TRIALS,), _write_trials),
    ((MODEL, training_summary.MODEL_RUN), _write_training),
    ((PREDICTIONS,), _write_predictions),
    ((ingest_record.REGRESSION_EXAMPLES,), _write_regressions),
    ((verdict.BLESSING,), _write_verdict),
    ((serving_check.BLESSING,), _write_serving),
    ((PUSHED_MODEL,), None),
    ((gallery.GALLERY,), _write_gallery),
]
"""The outputs of each stage, of which all are of one node, and what writes them."""


def many_classes(report: ReportData, names: Sequence[str]) -> ReportData:
    """The same run of these classes: on each a bound is broken, and all test images are taken for another class."""
    assert report.data and report.verdict
    counts = {name: ClassCounts({"train": 8, "eval": 1, "test": 4}, 3) for name in names}
    slices = [measured(f"label={name}", 4, 0.25) for name in names]
    failures = [dataclasses.replace(FAILURE, slice=one.slice) for one in slices]
    wrong = zip(names, (*names[1:], names[0]), strict=True)
    return dataclasses.replace(
        report,
        outcome=dataclasses.replace(report.outcome, failures=[Failure(**dataclasses.asdict(f)) for f in failures]),
        data=dataclasses.replace(report.data, counts=dataclasses.replace(report.data.counts, classes=counts)),
        verdict=dataclasses.replace(
            report.verdict,
            overall=dataclasses.replace(report.verdict.overall, classes=[class_metrics(name, 4) for name in names]),
            slices=slices,
            judged=[judged("per_slice", one.slice, "broken", 0.25) for one in slices],
            failures=failures,
        ),
        predictions=[Prediction(other, 0.9, 0.1, 2, f"{name}/1.png", "ab", name, {}) for name, other in wrong],
        training=None,
        pushed="/push/1",
    )
