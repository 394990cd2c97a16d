"""Folders as people have them, from ImageExampleGen to ValidationGate: what passes, what stops, and its advice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from PIL import Image
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.components.example_validator.executor import Executor
from tfx.types import artifact_utils
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import ExampleAnomalies, ExampleStatistics, Schema

from components.validation_gate import ValidationGate
from core.artifacts import ingest_record
from core.artifacts.ingest_record import IngestCounts, Reject
from core.errors import InputError
from core.settings import loading
from core.settings.converter import to_json
from pipeline import data_source, schema
from tests.components.conftest import detailed, picture
from tests.components.test_image_example_gen import execute, plain

__all__ = ["execute"]  # a fixture


class Judged(NamedTuple):
    """What ingestion left, and what the gate says: notes, or the message with which it stops."""

    splits: dict[str, str]
    counts: IngestCounts
    left_out: list[Reject]
    notes: list[str]
    problem: str

    def labels(self, split: str) -> set[str]:
        return {path.rsplit("/", 2)[-2] for path, of in self.splits.items() if of == split}


@pytest.fixture
def judge(execute: Callable[..., Any], tmp_path: Path) -> Callable[..., Judged]:
    """Runs ImageExampleGen, TFDV, ExampleValidator and ValidationGate, as the pipeline wires them."""

    def run(folder: Path, *overrides: str) -> Judged:
        settings_file = tmp_path / "settings.yaml"
        settings_file.write_text(f'name: birds\ndata: {{images: "{folder}", schema: "{tmp_path}/s.pbtxt"}}\n')
        settings = loading.load(settings_file, overrides)
        data = settings.data
        text, inferred = data_source.reviewed_schema(settings, data_source.list_images(settings, str(folder)))
        options = {name: getattr(data, name) for name in ("near_duplicates", "min_class_images", "small_classes")}
        examples, record = execute(folder, schema.bucket_boundaries(text), **options)

        names = artifact_utils.decode_split_names(examples.split_names)
        statistics, anomalies, reviewed, verdict = ExampleStatistics(), ExampleAnomalies(), Schema(), File()
        for artifact in (statistics, anomalies, reviewed, verdict):
            artifact.uri = f"{examples.uri}-{artifact.type_name}"
        (Path(reviewed.uri)).mkdir()
        Path(reviewed.uri, "schema.pbtxt").write_text(text)
        statistics.split_names = examples.split_names
        splits, features = {}, schema.feature_names(text)
        for name in names:
            records = tf.data.TFRecordDataset(tf.io.gfile.glob(f"{artifact_utils.get_split_uri([examples], name)}/*"))
            rows = [plain(record) for record in records.as_numpy_iterator()]
            splits |= {row["image/path"].decode(): name for row in rows}
            found = statistics_pb2.DatasetFeatureStatisticsList(datasets=[{"num_examples": 0}])
            if rows:  # as StatisticsGen's, in a hundredth of the time
                found = tfdv.generate_statistics_from_dataframe(pd.DataFrame(rows, columns=features))
            Path(statistics.uri, f"Split-{name}").mkdir(parents=True)
            Path(statistics.uri, f"Split-{name}", "FeatureStats.pb").write_bytes(found.SerializeToString())
        Executor().Do({"statistics": [statistics], "schema": [reviewed]}, {"anomalies": [anomalies]}, {})
        notes, problem = [], ""
        try:
            ValidationGate.test_call(
                anomalies=anomalies,
                statistics=statistics,
                examples=examples,
                rejects=record,
                verdict=verdict,
                schema_file="" if inferred else str(settings.schema_file),
                max_rejected=data.max_rejected,
                min_class_images=data.min_class_images,
                small_classes=data.small_classes,
                bounds=to_json(data.bounds),
                code="",
            )
        except InputError as error:
            problem = str(error)
        else:
            notes = json.loads(Path(verdict.uri, "data_gate.json").read_text())["notes"]
            if inferred:
                schema.keep(settings.schema_file, text)
        left_out = list(ingest_record.LEFT_OUT.read(record.uri))
        return Judged(splits, ingest_record.COUNTS.read(record.uri), left_out, notes, problem)

    return run


def save(folder: Path, classes: dict[str, int], first: int = 0) -> Path:
    """A folder of classes with so many pictures each, all different."""
    for label, number in classes.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(number):
            picture(first).save(folder / label / f"{i:04}.png")
            first += 1
    return folder


def test_a_placeholder_in_every_class_stops_by_a_bound_of_its_own_and_may_be_left_out(
    tmp_path: Path, judge: Callable[..., Judged]
) -> None:
    folder = save(tmp_path / "photos", {"owl": 40, "robin": 40, "wren": 40})
    for label in ("owl", "robin", "wren"):
        Image.new("RGB", (120, 90), "white").save(folder / label / "gone.png")
    stopped = judge(folder)
    assert "3 of 123 images (2.44%) are left out, since identical ones have other labels" in stopped.problem
    assert "owl (owl/gone.png), robin (robin/gone.png), wren (wren/gone.png)" in stopped.problem
    assert "raise data.bounds.contradicting" in stopped.problem
    assert "near" not in stopped.problem and "max_rejected" not in stopped.problem

    passed = judge(folder, "data.bounds.contradicting=0.05", "data.max_rejected=0")
    assert passed.problem == "" and "3 of 123 images" in passed.notes[0]
    assert [image.path for image in passed.left_out] == ["owl/gone.png", "robin/gone.png", "wren/gone.png"]
    assert (passed.counts.found, passed.counts.left_out, passed.counts.read) == (123, 3, 120)
    assert len(passed.splits) == 120 and passed.counts.duplicates == 0


def test_one_photo_in_two_classes_of_hundreds_is_left_out_with_a_note(
    tmp_path: Path, judge: Callable[..., Judged]
) -> None:
    folder = save(tmp_path / "photos", {"roses": 150, "tulips": 150})
    (folder / "tulips" / "twice.bmp").write_bytes(b"")
    Image.open(folder / "roses" / "0007.png").save(folder / "tulips" / "twice.bmp")
    passed = judge(folder)
    assert passed.problem == "" and passed.notes[0].startswith("2 of 301 images (0.66%) are left out")
    assert {image.path for image in passed.left_out} == {"roses/0007.png", "tulips/twice.bmp"}


def test_a_photo_that_contradicts_itself_across_given_splits_is_in_neither(
    tmp_path: Path, judge: Callable[..., Judged]
) -> None:
    folder = tmp_path / "photos"
    for start, (split, number) in enumerate({"train": 60, "val": 20, "test": 30}.items()):
        save(folder / split, {"roses": number, "tulips": number}, 1000 * start)
    Image.open(folder / "train/roses/0007.png").save(folder / "test/tulips/twice.png")
    passed = judge(folder)
    assert passed.problem == "" and passed.notes[0].startswith("2 of 221 images (0.90%) are left out")
    assert not passed.splits.keys() & {"train/roses/0007.png", "test/tulips/twice.png"}
    assert not any("another split" in note for note in passed.notes), "what is left out leaks nothing"


def test_a_long_tail_trains_and_keeps_every_class(tmp_path: Path, judge: Callable[..., Judged]) -> None:
    folder = save(tmp_path / "photos", {f"common{k}": 10 for k in range(12)} | {f"rare{k}": 2 for k in range(40)})
    passed = judge(folder)
    assert passed.problem == "" and len(passed.labels("train")) == 52
    assert any("of 52 classes have no images in test: " in note and "and " in note for note in passed.notes)

    refused = judge(folder, "data.min_class_images=3")
    assert "40 classes have fewer images in train than data.min_class_images demands, 3: 'rare0'" in refused.problem
    assert refused.problem.endswith("or set data.small_classes to leave_out to train without them")
    left = judge(folder, "data.min_class_images=3", "data.small_classes=leave_out")
    assert left.problem == "" and left.labels("train") == {f"common{k}" for k in range(12)}
    assert left.labels("eval") | left.labels("test") <= left.labels("train")
    assert (left.counts.left_out, left.counts.read) == (80, 120)
    (note,) = (note for note in left.notes if "are left out" in note)
    assert note.startswith("40 classes") and note.endswith("and 30 more")


def test_a_class_that_only_test_has_stops_or_is_left_out(tmp_path: Path, judge: Callable[..., Judged]) -> None:
    folder = tmp_path / "photos"
    for start, split in enumerate(("train", "val", "test")):
        save(folder / split, {"owl": 30, "robin": 30, **({"wren": 9} if split == "test" else {})}, 1000 * start)
    stopped = judge(folder)
    assert "1 class has fewer images in train" in stopped.problem and "'wren' (9 in test)" in stopped.problem
    assert "pbtxt" not in stopped.problem, "there is no file yet"
    left = judge(folder, "data.small_classes=leave_out")
    assert left.problem == "" and left.labels("test") == {"owl", "robin"}


def test_a_camera_that_does_not_move_stops_and_the_advice_works(tmp_path: Path, judge: Callable[..., Judged]) -> None:
    folder, rng = tmp_path / "photos", np.random.default_rng(0)
    scene = np.asarray(detailed(1, 128, 128).convert("L"), np.float32)
    for i in range(80):
        shot = scene + rng.normal(0, 2, scene.shape)
        label = "scratched" if i % 2 else "good"
        if i % 2:
            x, y = rng.integers(20, 100, 2)
            shot[y : y + 2, x : x + 8] = 20
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(shot, 0, 255).astype(np.uint8)).save(folder / label / f"{i:04}.png")
    stopped = judge(folder)
    assert "no image is in " in stopped.problem
    assert "80 of 80 images are one group of near-duplicates" in stopped.problem
    assert "set data.near_duplicates to null" in stopped.problem
    passed = judge(folder, "data.near_duplicates=null")
    assert passed.problem == "" and set(passed.splits.values()) == {"train", "eval", "test"}


def test_a_schema_of_data_that_failed_is_not_kept_and_another_that_does_not_fit_says_so(
    tmp_path: Path, judge: Callable[..., Judged]
) -> None:
    wrong = save(tmp_path / "wrong", {"drafts": 5, "old": 1})
    right = save(tmp_path / "right", {"owl": 40, "robin": 40, "wren": 40})
    assert "no image is in" in judge(wrong).problem and not (tmp_path / "s.pbtxt").exists()
    assert judge(right).problem == "" and "3 classes in" in (tmp_path / "s.pbtxt").read_text()

    told = judge(save(tmp_path / "other", {"cat": 40, "dog": 40, "owl": 40})).problem
    assert f"the images do not fit the schema {tmp_path}/s.pbtxt (inferred on " in told
    assert (
        f"from the 3 classes in {right} (class folders: 120 files in 3 classes)): 2 of their 3 classes are not" in told
    )
    assert f"delete {tmp_path}/s.pbtxt to have it inferred anew" in told and told.count("\n- ") == 1
    (tmp_path / "s.pbtxt").unlink()
    assert judge(tmp_path / "other").problem == ""


def test_bursts_are_named_where_a_split_stays_empty(tmp_path: Path, judge: Callable[..., Judged]) -> None:
    """None of them is large, and together they are most of the images."""
    folder, rng = tmp_path / "photos", np.random.default_rng(0)
    for label in ("owl", "robin"):
        (folder / label).mkdir(parents=True)
        for burst in range(4):
            scene = np.asarray(detailed(10 * burst + len(label), 128, 128).convert("L"), np.float32)
            for i in range(5):
                shot = np.clip(scene + rng.normal(0, 2, scene.shape), 0, 255).astype(np.uint8)
                Image.fromarray(shot).save(folder / label / f"{burst}{i}.png")
    stopped = judge(folder)
    assert "32 of 40 images show the same as another and share its split; if these are different" in stopped.problem
    assert "set data.near_duplicates to null" in stopped.problem


def test_a_class_of_near_duplicates_is_in_train_and_noted_once(tmp_path: Path, judge: Callable[..., Judged]) -> None:
    folder, rng = save(tmp_path / "photos", {"owl": 40, "robin": 40}), np.random.default_rng(0)
    scene = np.asarray(detailed(1, 128, 128).convert("L"), np.float32)
    (folder / "wren").mkdir()
    for i in range(20):
        shot = np.clip(scene + rng.normal(0, 2, scene.shape), 0, 255).astype(np.uint8)
        Image.fromarray(shot).save(folder / "wren" / f"{i}.png")
    passed = judge(folder)
    assert passed.problem == "" and "wren" in passed.labels("train")
    (note,) = (note for note in passed.notes if "set data.near_duplicates to null" in note)
    assert note.startswith("20 of 100 images are one group of near-duplicates")
    assert "1 of 3 classes has no images in test: wren" in passed.notes
