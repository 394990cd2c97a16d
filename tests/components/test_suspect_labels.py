"""SuspectLabels: labels made wrong on purpose are found, without a hint from duplicates and groups."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import artifact_utils
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import Examples, InferenceResult

from components.suspect_labels import SuspectLabels
from core import tfrecords
from core.artifacts.base import split_dir
from core.artifacts.features import FEATURES_FILE, UNVARIED, Features, SplitFeatures
from core.artifacts.ingest_record import DUPLICATES, DuplicateGroup
from core.artifacts.suspects import QUALITY, SUSPECTS_CSV, SUSPECTS_FILE, LabelQuality, Suspect

CLASSES = ("daisy", "roses", "tulips")
PER_CLASS = 40
WIDTH = 8


class Image(NamedTuple):
    path: str
    label: str
    features: np.ndarray
    camera: str = ""


def flowers(spread: float = 0.3) -> list[Image]:
    """Images of classes that a line can tell apart."""
    random = np.random.default_rng(0)
    return [
        Image(f"{label}/{n:02d}.jpg", label, (np.eye(WIDTH)[kind] + spread * random.normal(size=WIDTH)))
        for kind, label in enumerate(CLASSES)
        for n in range(PER_CLASS)
    ]


def write(folder: Path, split: str, records: Iterable[Mapping[str, bytes]]) -> None:
    target = Path(split_dir(str(folder), split))
    target.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(target / "data-00000-of-00001")) as writer:
        for record in records:
            feature = {n: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])) for n, v in record.items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def examples_in(folder: Path, splits: Iterable[str]) -> Examples:
    made = Examples()
    made.uri, made.split_names = str(folder), artifact_utils.encode_split_names(list(splits))
    return made


def judge(folder: Path, images: list[Image], *duplicates: DuplicateGroup, **parameters: str) -> list[Suspect]:
    """Every fifth image is in the test split, in another order there than its features."""
    splits = {"train": [i for n, i in enumerate(images) if n % 5], "test": images[::5]}
    stored = SplitFeatures(UNVARIED, "float32", bfloat16=False)
    for split, members in splits.items():
        raw = (
            {
                "image/path": image.path.encode(),
                "image/sha256": image.path.encode().hex().encode(),
                "label": image.label.encode(),
                "slice/camera": image.camera.encode(),
            }
            for image in members
        )
        write(folder / "examples", split, raw)
        features = (
            {"image/sha256": i.path.encode().hex().encode(), "features": i.features.astype("<f4").tobytes()}
            for i in reversed(members)
        )
        write(folder / "features", split, features)
    described = Features("pooled", ("mixed10",), (WIDTH,), 75, "", "", None, dict.fromkeys(splits, stored))
    FEATURES_FILE.write(folder / "features", described)
    (folder / "record").mkdir()
    DUPLICATES.write(folder / "record", duplicates)
    return run(folder, folder / "examples", folder / "features", folder / "record", **parameters)[0]


def run(
    folder: Path, examples: Path, features: Path, record: Path, **parameters: str
) -> tuple[list[Suspect], LabelQuality]:
    splits = FEATURES_FILE.read(features).splits
    given, left = File(), InferenceResult()
    given.uri, left.uri = str(record), str(folder / "suspects")
    Path(left.uri).mkdir()
    SuspectLabels.test_call(
        examples=examples_in(examples, splits),
        features=examples_in(features, splits),
        record=given,
        suspects=left,
        **parameters,
    )
    return list(SUSPECTS_FILE.read(left.uri)), QUALITY.read(left.uri)


def mislabel(image: Image, label: str) -> Image:
    return image._replace(label=label)


def test_wrong_labels_come_first_with_the_class_that_fits(tmp_path: Path) -> None:
    images = flowers()
    images[3] = mislabel(images[3], "tulips")
    images[50] = mislabel(images[50], "daisy")

    suspects = judge(tmp_path, images)

    assert {(s.path, s.split, s.label, s.likely) for s in suspects[:2]} == {
        ("daisy/03.jpg", "train", "tulips", "daisy"),
        ("roses/10.jpg", "test", "daisy", "roses"),
    }
    assert all(s.confident and s.label_probability < 0.2 < s.likely_probability for s in suspects[:2])
    quality = QUALITY.read(tmp_path / "suspects")
    assert quality.images == 3 * PER_CLASS and quality.errors == 2 and quality.not_judged == 0
    assert quality.error_rate.low < 2 / 120 < quality.error_rate.high
    with (tmp_path / "suspects" / SUSPECTS_CSV).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [s.path for s in suspects]
    assert rows[0]["confident"] == "True"


def test_right_labels_are_not_suspect(tmp_path: Path) -> None:
    assert judge(tmp_path, flowers()) == []


@pytest.mark.parametrize("known_by", ["duplicates", "group_by"])
def test_images_that_belong_together_do_not_vouch_for_each_other(tmp_path: Path, known_by: str) -> None:
    images = flowers()
    outlier = np.eye(WIDTH)[0] * 0.7 + np.eye(WIDTH)[7]  # a daisy in another light
    images += [Image(f"tulips/copy{n}.jpg", "tulips", outlier, "c7") for n in range(6)]
    paths = [image.path for image in images[-6:]]
    together = DuplicateGroup("near", paths, ["tulips"] * 6, ["train"] * 6)

    alone = judge(tmp_path / "alone", images)
    known = (
        judge(tmp_path / "known", images, together)
        if known_by == "duplicates"
        else judge(tmp_path / "known", images, group_by="camera")
    )

    assert not {s.path for s in alone} & {*paths}  # each is fitted with the five others
    assert {s.path for s in known} >= {*paths}


def test_classes_too_small_are_left_out_and_counted(tmp_path: Path) -> None:
    images = [*flowers(), *(Image(f"violets/{n}.jpg", "violets", np.ones(WIDTH)) for n in range(4))]

    assert judge(tmp_path, images) == []
    assert QUALITY.read(tmp_path / "suspects").not_judged == 4


def test_one_class_alone_is_not_judged(tmp_path: Path) -> None:
    assert judge(tmp_path, flowers()[:PER_CLASS]) == []
    quality = QUALITY.read(tmp_path / "suspects")
    assert quality.images == 0 and quality.not_judged == PER_CLASS and "two classes" in quality.reason


def found_among_first_25(run_dir: Path, folder: Path, seed: int) -> int:
    """Makes 5% of the labels of a run wrong at random, and counts how many of the first 25 suspects are those."""
    examples, features, record = (
        sorted((run_dir / "artifacts" / node).iterdir())[-1]
        for node in ("ImageExampleGen/examples", "FeatureExtractor/features", "ImageExampleGen/rejects")
    )
    splits = FEATURES_FILE.read(features).splits
    images = [(split, r) for split in splits for r in tfrecords.read(f"{split_dir(str(examples), split)}/*")]
    labels = sorted({tfrecords.values(record)["label"] for _, record in images})
    random = np.random.default_rng(seed)
    chosen = {int(n) for n in random.choice(len(images), round(0.05 * len(images)), replace=False)}
    wrong = set()
    relabeled: dict[str, list[dict[str, bytes]]] = {split: [] for split in splits}
    for number, (split, serialized) in enumerate(images):
        values = {n: v for n, v in tfrecords.values(serialized).items() if n != "image/encoded"}
        if number in chosen:
            values["label"] = random.choice([label for label in labels if label != values["label"]])
            wrong.add(values["image/path"].decode())
        relabeled[split].append(values)
    for split, records in relabeled.items():
        write(folder / "relabeled", split, records)
    suspects, _ = run(folder, folder / "relabeled", features, record)
    shutil.rmtree(folder / "relabeled")
    return len({s.path for s in suspects[:25]} & wrong)
