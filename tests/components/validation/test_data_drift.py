from collections.abc import Sequence

import numpy as np
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from components.validation.data_drift import balance, class_changes, drift, largest_shift, skew
from components.validation.data_problems import SplitFindings
from core.artifacts.ingest_record import ClassCounts
from core.settings.data import DataBounds

BOUNDS = DataBounds(label_drift=0.3, image_drift=0.2)


def split(name: str, **features: dict[str, int]) -> SplitFindings:
    """What TFDV would have found: value -> number of images, for each feature; `__` stands for `/`."""
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    data = statistics.datasets.add(num_examples=max(sum(counts.values()) for counts in features.values()))
    for feature, counts in features.items():
        made = data.features.add()
        made.path.step.append(feature.replace("__", "/"))
        for value, number in counts.items():
            made.string_stats.rank_histogram.buckets.add(label=value, sample_count=number)
    return SplitFindings(name, anomalies_pb2.Anomalies(), statistics)


def paths(feature: str, value: str | None, splits: Sequence[str]) -> list[str]:
    return [f"{feature}-{value}-{'+'.join(splits)}.png"] if value != "gone" else []


def test_the_largest_change_of_a_share_is_found() -> None:
    shift = largest_shift({"a": 800, "b": 200}, {"a": 500, "b": 200, "c": 300})
    assert shift is not None
    assert (shift.value, shift.before, shift.now) == ("a", 0.8, 0.5) or (shift.value, shift.now) == ("c", 0.3)
    assert abs(shift.distance - 0.3) < 1e-9


def test_what_chance_brings_about_is_no_shift() -> None:
    dice = np.random.default_rng(0)
    found = 0
    for _ in range(2000):
        before, now = (dict(enumerate(dice.multinomial(n, [0.4, 0.3, 0.2, 0.1]))) for n in (200, 25))
        shift = largest_shift({str(k): int(v) for k, v in before.items()}, {str(k): int(v) for k, v in now.items()})
        found += shift is not None and shift.distance > 0.2
    assert found <= 6  # measured: 3 of 2000
    assert largest_shift({"a": 5}, {"b": 0}) is None and largest_shift({}, {"a": 3}) is None


def test_drift_of_labels_and_of_images_is_told_with_its_images() -> None:
    before = [split("train", label={"cat": 80, "dog": 80}, slice__light={"dark": 20, "bright": 140})]
    now = [
        split("train", label={"cat": 140, "dog": 20}, slice__light={"dark": 70, "bright": 70}),
        split("test", label={"cat": 20, "dog": 0}, slice__light={"dark": 20}),
    ]
    told = list(drift(now, before, BOUNDS, [], paths))
    assert told == [
        "label drifted since the last blessed model's data: 'dog' was 50.0% of the images and is 11.1% (distance 0.39; "
        "data.bounds.label_drift allows 0.3); such images: label-dog-train+test.png",
        "light drifted since the last blessed model's data: 'dark' was 12.5% of the images and is 56.2% (distance "
        "0.44; data.bounds.image_drift allows 0.2); such images: slice/light-dark-train+test.png",
    ]
    assert list(drift(now, before, DataBounds(label_drift=0.4, image_drift=None), [], paths)) == []
    assert list(drift(before, before, BOUNDS, [], paths)) == []


def test_a_kind_that_is_gone_is_told_as_such() -> None:
    before = [split("train", label={"cat": 100}, slice__camera={"gone": 60, "new": 40})]
    now = [split("train", label={"cat": 100}, slice__camera={"new": 100})]
    (told,) = drift(now, before, BOUNDS, [], paths)
    assert "'gone' was 60.0% of the images and is 0.0%" in told and told.endswith("; no image has it now")


def test_skew_between_splits_is_told_and_grouped_columns_are_excluded() -> None:
    made = [
        split("train", label={"cat": 400}, slice__camera={"phone": 400}, slice__patient={"p1": 400}),
        split("eval", label={"cat": 50}, slice__camera={"phone": 50}, slice__patient={"p2": 50}),
        split("test", label={"cat": 50}, slice__camera={"scanner": 30, "phone": 20}, slice__patient={"p3": 50}),
    ]
    (told,) = skew(made, 0.3, ["slice/patient"], paths)
    assert told == (
        "camera is skewed between train and test: 'scanner' is 0.0% of train and 60.0% of test (distance 0.60; "
        "data.bounds.split_skew allows 0.3); such images: slice/camera-scanner-test.png"
    )
    assert list(skew(made, None, [], paths)) == []


def test_columns_of_names_are_no_kinds_of_images() -> None:
    names = [
        split(name, label={"cat": 300}, slice__file={f"{name}{i}": 2 for i in range(150)}) for name in ("train", "test")
    ]
    assert list(skew(names, 0.001, [], paths)) == []


def test_classes_that_appear_or_vanish_are_noted_or_stopped() -> None:
    before, now = [split("train", label={"cat": 5, "dog": 5})], [split("train", label={"cat": 5, "bird": 5, "owl": 1})]
    problems, notes = class_changes(now, before, None, paths)
    assert problems == []
    told = (
        "classes changed since the last blessed model's data; 2 appeared: bird, owl; 1 vanished: dog; images of those "
        "that appeared: label-bird-train.png, label-owl-train.png"
    )
    assert notes == [told]
    problems, notes = class_changes(now, before, 2, paths)
    assert problems == [f"{told} (data.bounds.class_changes allows 2)"] and notes == []
    assert class_changes(now, before, 3, paths)[0] == [] and class_changes(now, now, 0, paths) == ([], [])


def test_classes_of_a_baseline_that_lists_only_some_are_not_compared() -> None:
    before, now = [split("train", label={"cat": 50})], [split("train", label={"cat": 5, "dog": 50})]
    before[0].statistics.datasets[0].features[0].string_stats.unique = 2
    problems, (note,) = class_changes(now, before, 0, paths)
    assert problems == [] and note.startswith("the classes were not compared")
    assert list(drift(now, before, BOUNDS, [], paths)) == []


def test_small_shares_are_told_smallest_first() -> None:
    numbers = {"cat": 90, "dog": 8, "owl": 2, "gone": 0}
    classes = {name: ClassCounts({"train": number}, 0) for name, number in numbers.items()}
    assert balance(classes, 0.1) == [
        "2 classes have less of train than data.bounds.min_class_share demands, 10.0%: 'owl' (2, 2.0%), 'dog' (8, 8.0%)"
    ]
    assert balance(classes, None) == []
