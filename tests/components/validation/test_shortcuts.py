"""What predicts a class without the picture is named; what does not is left alone."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from components.validation.shortcuts import Columns, find_shortcuts, judge, read_columns

CLASSES = ("daisy", "roses", "tulips")


def columns(per_class: int = 60, **values: object) -> Columns:
    return Columns([label for label in CLASSES for _ in range(per_class)], values)


def strongest(found: Columns) -> tuple[str, str, float]:
    first = find_shortcuts(found)[0]
    return first.column, first.label, first.balanced_accuracy.value


def test_a_format_that_one_class_has_alone_is_a_shortcut() -> None:
    random = np.random.default_rng(0)
    formats = ["JPEG"] * 120 + ["PNG"] * 60  # all tulips are scans

    found = columns(format=formats, brightness=list(random.random(180)))

    assert strongest(found) == ("format", "tulips", 1.0)
    assert [shortcut.column for shortcut in find_shortcuts(found)] == ["format", "brightness"]
    problems, notes = judge(find_shortcuts(found), most=None)
    assert problems == [] and len(notes) == 1
    assert notes[0].startswith("format alone tells 'tulips' from the other classes: balanced accuracy 100.0%")


def test_a_number_that_follows_the_class_is_one_and_the_bound_stops() -> None:
    random = np.random.default_rng(1)
    widths = [float(w) for w in np.concatenate([random.normal(mean, 20, 60) for mean in (300, 600, 900)])]

    problems, notes = judge(find_shortcuts(columns(width=widths)), most=0.9)

    assert notes == [] and len(problems) == 1
    assert "width alone tells" in problems[0] and "data.bounds.shortcut, 0.9" in problems[0]


@pytest.mark.parametrize("seed", range(5))
def test_chance_is_no_shortcut_whatever_the_column(seed: int) -> None:
    random = np.random.default_rng(seed)
    found = find_shortcuts(
        columns(
            brightness=list(random.random(180)),
            camera=list(random.choice(["a", "b", "c"], 180)),
            id=[f"{n}" for n in range(180)],
            format=["JPEG"] * 180,
        )
    )

    assert {shortcut.column for shortcut in found} == {"brightness", "camera", "id"}
    assert judge(found, most=0.7) == ([], [])


def test_few_images_are_not_certain() -> None:
    found = find_shortcuts(columns(per_class=8, format=["JPEG"] * 16 + ["PNG"] * 8))

    assert found[0].balanced_accuracy.value == 1.0
    assert judge(found, most=0.9) == ([], [])


def test_many_more_images_of_one_class_are_no_shortcut_by_themselves() -> None:
    random = np.random.default_rng(2)
    labels = ["daisy"] * 570 + ["roses"] * 30

    found = find_shortcuts(Columns(labels, {"brightness": list(random.random(600))}))

    assert judge(found, most=0.6) == ([], [])


def test_columns_are_files_pictures_and_metadata_without_buckets() -> None:
    def feature(value: object) -> tf.train.Feature:
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))

    values = {
        "image/encoded": b"12345", "image/width": 40, "image/height": 20, "image/brightness": 0.5,
        "image/path": b"a.jpg", "image/sha256": b"ab", "label": b"daisy", "slice/brightness": b"dark (<0.31)",
        "slice/format": b"JPEG", "slice/camera": b"x", "slice/patient": b"7",
    }  # fmt: skip
    record = tf.train.Example(features=tf.train.Features(feature={n: feature(v) for n, v in values.items()}))

    found = read_columns([record.SerializeToString()], excluded=["slice/patient"])

    assert found == Columns(
        ["daisy"],
        {
            "width": [40], "height": [20], "brightness": [0.5], "aspect ratio": [2.0],
            "format": ["JPEG"], "camera": ["x"],
        },
    )  # fmt: skip
