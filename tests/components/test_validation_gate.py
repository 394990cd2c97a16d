"""ValidationGate on what StatisticsGen and ExampleValidator really write: fit data pass, all else is told in words."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.components.example_validator.executor import Executor
from tfx.types import artifact_utils
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import ExampleAnomalies, Examples, ExampleStatistics, Schema

from components.ingestion.image_folder import DataFolder, ListedFile
from components.ingestion.image_ingestion import count
from components.ingestion.image_splits import Assignment, ImageFacts
from components.ingestion.layouts.listing import Listing
from components.validation_gate import ValidationGate
from core.artifacts import ingest_record
from core.artifacts.ingest_record import NO_PICTURE, DuplicateGroup, Reject
from core.errors import InputError
from core.settings.abstain import AbstainConfig
from core.settings.converter import to_json
from core.settings.data import DataBounds

SCHEMA = """
feature { name: "label" type: BYTES domain: "classes" presence { min_fraction: 1 } shape { dim { size: 1 } } }
feature { name: "slice/light" type: BYTES presence { min_fraction: 1 min_count: 1 } shape { dim { size: 1 } } }
feature { name: "image/width" type: INT int_domain { min: 1 } presence { min_fraction: 1 } shape { dim { size: 1 } } }
string_domain { name: "classes" value: "daisy" value: "roses" value: "tulips" }
"""
FILE = "schemas/flowers.pbtxt"
FIRST = "the data were not compared with earlier ones: no blessed model was trained on other data"
Row = dict[str, str | int]
NO_BOUNDS = DataBounds(label_drift=None, image_drift=None, split_skew=None)


def rows(*labels: str, **features: str | int) -> list[Row]:
    return [{"label": label, "slice/light": "dark", "image/width": 20} | features for label in labels]


ALL = ("daisy", "roses", "tulips")


@pytest.fixture
def gate(tmp_path: Path) -> Callable[..., list[str]]:
    """Runs statistics, validation and the gate on the rows of each split; returns its notes."""

    def run(
        schema: str = SCHEMA,
        as_files: bool = False,
        rejected: int = 0,
        duplicates: Sequence[DuplicateGroup] = (),
        before: dict[str, list[Row]] | None = None,
        bounds: dict[str, float] | None = None,
        listed_before: int = 1000,
        unseen: int = 0,
        left_out: Sequence[Reject] = (),
        ignored: Sequence[Reject] = (),
        schema_file: str = FILE,
        least: int = 1,
        small: str = "refuse",
        group_by: str = "",
        abstain: str = "",
        **splits: list[Row],
    ) -> list[str]:
        names = artifact_utils.encode_split_names(list(splits))
        statistics, anomalies, schema_artifact = ExampleStatistics(), ExampleAnomalies(), Schema()
        for made, folder in ((statistics, "statistics"), (anomalies, "anomalies"), (schema_artifact, "schema")):
            made.uri = str(tmp_path / folder)
            (tmp_path / folder).mkdir(exist_ok=True)
        statistics.split_names = names
        (tmp_path / "schema/schema.pbtxt").write_text(schema)
        for name, data in splits.items():
            (tmp_path / f"statistics/Split-{name}").mkdir(exist_ok=True)
            if as_files or not data:
                proto = _statistics_of_files(data, tmp_path)
            else:  # the same proto in a hundredth of the time
                proto = tfdv.generate_statistics_from_dataframe(pd.DataFrame(data))
            (tmp_path / f"statistics/Split-{name}/FeatureStats.pb").write_bytes(proto.SerializeToString())
        Executor().Do({"statistics": [statistics], "schema": [schema_artifact]}, {"anomalies": [anomalies]}, {})
        rejects, verdict = File(), File()
        rejects.uri, verdict.uri = str(tmp_path), str(tmp_path / "verdict")
        baseline = _earlier_statistics(before, listed_before, tmp_path / "before") if before else None
        written = {name: data + data[:unseen] if name == "train" else data for name, data in splits.items()}
        _record(rejects.uri, written, rejected, left_out, duplicates, ignored)
        ValidationGate.test_call(
            anomalies=anomalies,
            statistics=statistics,
            examples=_examples(splits, tmp_path / "examples"),
            rejects=rejects,
            verdict=verdict,
            baseline=baseline,
            schema_file=schema_file,
            max_rejected=0.2,
            min_class_images=least,
            small_classes=small,
            bounds=to_json(dataclasses.replace(NO_BOUNDS, **(bounds or {}))),
            group_by=group_by,
            abstain=abstain,
            code="",
        )
        return json.loads((tmp_path / "verdict/data_gate.json").read_text())["notes"]

    return run


def _earlier_statistics(splits: dict[str, list[Row]], listed: int, folder: Path) -> ExampleStatistics:
    made = ExampleStatistics()
    made.uri, made.split_names = str(folder), artifact_utils.encode_split_names(list(splits))
    for name, data in splits.items():
        (folder / f"Split-{name}").mkdir(parents=True, exist_ok=True)
        options = tfdv.StatsOptions(num_rank_histogram_buckets=listed)
        proto = tfdv.generate_statistics_from_dataframe(pd.DataFrame(data), options)
        (folder / f"Split-{name}/FeatureStats.pb").write_bytes(proto.SerializeToString())
    return made


def _examples(splits: dict[str, list[Row]], folder: Path) -> Examples:
    made = Examples()
    made.uri, made.split_names = str(folder), artifact_utils.encode_split_names(list(splits))
    for name, data in splits.items():
        (folder / f"Split-{name}").mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(folder / f"Split-{name}/data")) as writer:
            for i, row in enumerate(data):
                values = {key: value for key, value in row.items() if isinstance(value, str)}
                values["image/path"] = f"{row['label']}/{name}{i}.png"
                features = {
                    k: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode()])) for k, v in values.items()
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return made


def _record(
    uri: str,
    splits: dict[str, list[Row]],
    rejected: int,
    left_out: Sequence[Reject],
    duplicates: Sequence[DuplicateGroup],
    ignored: Sequence[Reject],
) -> None:
    """What ingestion would have left."""
    images = [(f"{split}/{i}.png", split, row) for split, data in splits.items() for i, row in enumerate(data)]
    bad = [Reject(f"bad{i:02d}.jpg", "daisy", "open", "empty") for i in range(rejected)]
    listed = len(images) + len(left_out) + len(bad) + len(ignored)
    listing = Listing(DataFolder("photos"), "class_folders", [ListedFile(str(i)) for i in range(listed)])
    facts = [ImageFacts(path, str(row["label"]), "", "", "", "") for path, _, row in images]
    facts += [ImageFacts(image.path, image.label, "", "", "", "") for image in left_out]
    assignment = Assignment({path: split for path, split, _ in images}, list(left_out), list(duplicates))
    ingest_record.COUNTS.write(uri, count(listing, facts, bad, assignment, ignored))
    ingest_record.IGNORED.write(uri, ignored)
    ingest_record.REJECTS.write(uri, bad)
    ingest_record.LEFT_OUT.write(uri, left_out)
    ingest_record.DUPLICATES.write(uri, duplicates)


def _statistics_of_files(data: list[Row], folder: Path) -> statistics_pb2.DatasetFeatureStatisticsList:
    """As StatisticsGen does it."""
    path = folder / "data.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in data:
            features = {
                name: tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
                if isinstance(value, int)
                else tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
                for name, value in row.items()
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return tfdv.generate_statistics_from_tfrecord(str(path))


def test_fit_data_pass(gate: Callable[..., list[str]]) -> None:
    assert gate(train=rows(*ALL), eval=rows(*ALL), test=rows(*ALL)) == [FIRST]


@pytest.mark.slow
def test_an_unknown_class_is_told_once_with_its_images(gate: Callable[..., list[str]]) -> None:
    with pytest.raises(InputError) as caught:
        gate(as_files=True, train=rows(*ALL, "rose", "rose", "chât"), eval=rows("daisy", "rose"), test=rows("daisy"))

    assert str(caught.value).splitlines() == [
        "the data are not fit to train on:",
        "- label: 'chât' (1 in train) is not in its domain in schemas/flowers.pbtxt; "
        "add it there if it is meant, otherwise rename or remove the folder 'chât'; such images: chât/train5.png",
        "- label: 'rose' (2 in train, 1 in eval) is not in its domain in schemas/flowers.pbtxt "
        "(did you mean 'roses'?); add it there if it is meant, otherwise rename or remove the folder 'rose'; such "
        "images: rose/eval1.png, rose/train3.png, rose/train4.png",
    ]


def test_a_class_without_images_to_train_on_stops(gate: Callable[..., list[str]]) -> None:
    data = {"train": rows(*["daisy"] * 4), "eval": rows("daisy", "roses"), "test": rows("daisy")}
    with pytest.raises(InputError) as caught:
        gate(rejected=1, **data)

    assert str(caught.value).splitlines()[1:] == [
        "- 2 classes have fewer images in train than data.min_class_images demands, 1: 'roses' (1 in eval), 'tulips' "
        "(no images at all); add images to train, remove those without images from the domain of label in "
        "schemas/flowers.pbtxt, or set data.small_classes to leave_out to train without them"
    ]


def test_a_label_that_train_does_not_have_stops_whatever_the_schema_says(gate: Callable[..., list[str]]) -> None:
    without = SCHEMA.replace('domain: "classes"', "")
    with pytest.raises(
        InputError, match=r"1 class has fewer images in train .*: 'tulips' \(1 in test\); add images to"
    ):
        gate(without, train=rows("daisy", "roses"), eval=rows("daisy"), test=rows("tulips"))


def test_small_classes_are_refused_in_one_line_or_named_as_left_out(gate: Callable[..., list[str]]) -> None:
    schema = text_format.Parse(SCHEMA, schema_pb2.Schema())
    rare = [f"rare{i:03}" for i in range(200)]
    schema.string_domain[0].value.extend(rare)
    text = text_format.MessageToString(schema)
    splits = {split: rows(*ALL, *ALL) for split in ("train", "eval", "test")}

    with pytest.raises(InputError) as caught:
        gate(text, least=2, **splits | {"train": rows(*ALL, *ALL, *rare)})
    (line,) = str(caught.value).splitlines()[1:]
    assert line.startswith(
        "- 200 classes have fewer images in train than data.min_class_images demands, 2: 'rare000' (1"
    )
    assert "'rare009' (1 in train) and 190 more; add images to train, lower data.min_class_images, or set" in line

    left_out = [Reject(f"{name}/1.png", name, "small_class", "few") for name in rare]
    notes = gate(text, least=2, small="leave_out", left_out=left_out, **splits)
    assert notes[0].startswith("200 classes have fewer images in train than data.min_class_images demands, 2, and are")
    assert notes[0].endswith(
        "left out (data.small_classes): " + ", ".join(f"{name!r} (1 left out)" for name in rare[:10]) + " and 190 more"
    )
    assert notes[1:] == [FIRST]


def test_fewer_than_two_classes_are_nothing_to_train_on(gate: Callable[..., list[str]]) -> None:
    left_out = [Reject(f"{name}/1.png", name, "small_class", "few") for name in ALL]
    only = rows("daisy")
    with pytest.raises(InputError, match="- fewer than two classes are left to train on: daisy; 2 classes have fewer"):
        gate(small="leave_out", left_out=left_out[1:], train=only, eval=only, test=only)
    with pytest.raises(InputError) as caught:
        gate(small="leave_out", least=9, left_out=left_out, train=[], eval=[], test=[])
    assert "- fewer than two classes are left to train on: none; 3 classes have fewer" in str(caught.value)


def test_data_that_do_not_fit_the_schema_at_all_say_where_it_is_from(gate: Callable[..., list[str]]) -> None:
    schema = SCHEMA + 'annotation { comment: "inferred on 2026-01-02 from the 3 classes in /data" }'
    birds = {split: rows("owl", "robin", "daisy", "wren") for split in ("train", "eval", "test")}
    with pytest.raises(InputError) as caught:
        gate(schema, **birds)
    assert str(caught.value).splitlines()[1:] == [
        "- the images do not fit the schema schemas/flowers.pbtxt (inferred on 2026-01-02 from the 3 classes in "
        "/data): 3 of their 4 classes are not in it: owl, robin, wren. It has daisy, roses, tulips. If these are "
        "other images than those that it is of, give them settings of their own, with another name (CONFIG=birds.yaml, "
        "as in docs/tutorial.md); if they take their place, delete schemas/flowers.pbtxt to have it inferred anew, or "
        "name another file in data.schema"
    ]


def test_a_split_without_images_stops(gate: Callable[..., list[str]]) -> None:
    with pytest.raises(InputError) as caught:
        gate(train=rows(*ALL), eval=[], test=rows("roses"))

    assert str(caught.value).splitlines()[1:] == [
        "- no image is in eval: add images, or give it a larger share in data.splits"
    ]


def test_every_other_anomaly_is_told_with_split_and_advice(gate: Callable[..., list[str]]) -> None:
    incomplete = rows("daisy")
    del incomplete[0]["slice/light"]
    bare = [{k: v for k, v in row.items() if k != "slice/light"} for row in rows("daisy", **{"image/width": 0})]

    with pytest.raises(InputError) as caught:
        gate(train=rows(*ALL) + incomplete, eval=bare, test=rows("daisy", extra=1))

    lines = str(caught.value).splitlines()[1:]
    assert any(
        line.startswith("- slice/light (in train): Column dropped: The feature was present in fewer examples")
        and line.endswith("or lower min_fraction in schemas/flowers.pbtxt; such images: daisy/train3.png")
        for line in lines
    )
    assert (
        "- slice/light (in eval): Column dropped: Column is completely missing; give every image a value, "
        "or remove the feature from schemas/flowers.pbtxt; such images: daisy/eval0.png"
    ) in lines
    assert (
        "- image/width (in eval): Out-of-range values: Unexpectedly small value: 0; "
        "correct the data, or change schemas/flowers.pbtxt if this is meant"
    ) in lines
    assert any(line.startswith("- extra (in test): New column") and "inferred anew" in line for line in lines)


def test_many_unknown_classes_do_not_flood(gate: Callable[..., list[str]]) -> None:
    strange, many = ([f"{name}{i:02d}" for i in range(25)] for name in ("strange", "known"))
    schema = SCHEMA.replace('value: "tulips"', " ".join(f'value: "{name}"' for name in ("tulips", *many)))

    with pytest.raises(InputError) as caught:
        gate(schema, train=rows(*ALL, *many, *strange), eval=rows("daisy"), test=rows("daisy"))

    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 11
    assert lines[-1] == "- label: 15 more values are not in its domain in schemas/flowers.pbtxt"


def test_unknown_values_of_metadata_are_told_apart_from_folders(gate: Callable[..., list[str]]) -> None:
    schema = SCHEMA.replace('"slice/light" type: BYTES', '"slice/light" type: BYTES string_domain { value: "dark" }')

    said = r"slice/light: 'drak' \(1 in test\).*did you mean 'dark'.*in the metadata; such images: daisy/test0.png"
    with pytest.raises(InputError, match=said):
        gate(schema, train=rows(*ALL), eval=rows("daisy"), test=rows("daisy", **{"slice/light": "drak"}))


MANY = [f"class{i:04d}" for i in range(1100)]  # TFDV lists a thousand if it is not asked for more


def test_more_classes_than_tfdv_lists_are_all_known(gate: Callable[..., list[str]]) -> None:
    schema = text_format.Parse(SCHEMA, schema_pb2.Schema())
    schema.string_domain[0].value[:] = [*MANY, "one more"]
    data = {"train": rows(*MANY, "unknown"), "eval": rows("class0001"), "test": rows("class0002")}

    with pytest.raises(InputError) as caught:
        gate(text_format.MessageToString(schema), **data)

    told = str(caught.value).splitlines()[1:]
    assert told[0].startswith("- label: 'unknown' (1 in train) is not in its domain")
    assert told[0].endswith("; such images: unknown/train1100.png")
    assert told[1].startswith("- 1 class has fewer images in train than data.min_class_images demands, 1: 'one more'")
    assert len(told) == 2


def test_classes_are_compared_with_those_of_an_earlier_run_only_if_it_lists_them_all(
    gate: Callable[..., list[str]],
) -> None:
    schema = text_format.Parse(SCHEMA, schema_pb2.Schema())
    schema.string_domain[0].value[:] = MANY
    now = {split: rows(*MANY) for split in ("train", "eval", "test")}
    bounds = {"class_changes": 0, "label_drift": 0.0}
    text = text_format.MessageToString(schema)

    assert gate(text, before={"train": rows(*MANY)}, listed_before=1100, bounds=bounds, **now) == []
    (note,) = gate(text, before={"train": rows(*MANY)}, bounds=bounds, **now)
    assert note.startswith("the classes were not compared with those of the last blessed model's data")


def test_warnings_are_notes_and_do_not_stop(gate: Callable[..., list[str]], tmp_path: Path) -> None:
    gate(train=rows(*ALL), eval=rows("daisy"), test=rows("daisy"))
    path = tmp_path / "anomalies/Split-test/SchemaDiff.pb"
    anomalies = anomalies_pb2.Anomalies.FromString(path.read_bytes())
    anomalies.anomaly_info["label"].severity = anomalies_pb2.AnomalyInfo.WARNING
    anomalies.anomaly_info["label"].short_description = "High L-infinity distance"
    anomalies.anomaly_info["label"].description = "It is 0.4."
    path.write_bytes(anomalies.SerializeToString())
    artifacts = {"anomalies": ExampleAnomalies(), "statistics": ExampleStatistics(), "verdict": File()}
    for name, artifact in artifacts.items():
        artifact.uri = str(tmp_path / name)
    for name in ("anomalies", "statistics"):
        artifacts[name].split_names = artifact_utils.encode_split_names(["train", "eval", "test"])
    rejects = File()
    rejects.uri = str(tmp_path)

    ValidationGate.test_call(
        **artifacts,
        examples=Examples(),
        rejects=rejects,
        schema_file=FILE,
        max_rejected=0.2,
        min_class_images=1,
        small_classes="refuse",
        bounds=to_json(NO_BOUNDS),
        code="",
    )

    assert json.loads((tmp_path / "verdict/data_gate.json").read_text())["notes"][2:3] == [
        "label (in test): High L-infinity distance: It is 0.4; "
        "correct the data, or change schemas/flowers.pbtxt if this is meant"
    ]


def test_too_many_rejects_stop_the_run_and_are_all_kept(gate: Callable[..., list[str]], tmp_path: Path) -> None:
    data = {"train": rows(*ALL * 10), "eval": rows(*ALL), "test": rows(*ALL, "daisy", "daisy")}
    assert gate(rejected=9, **data) == [FIRST]
    with pytest.raises(InputError) as caught:
        gate(rejected=12, **data)
    lines = str(caught.value).splitlines()
    assert lines[1] == "- 12 of 50 files (24.0%) cannot be used as images; data.max_rejected allows 20.0%:"
    assert lines[2] == "    bad00.jpg: empty" and lines[11:13] == ["    bad09.jpg: empty", "    and 2 more"]
    assert lines[13].endswith(f"All are listed in {tmp_path}/rejects.jsonl")
    assert len(list(ingest_record.REJECTS.read(tmp_path))) == 12


def test_more_files_that_are_no_pictures_than_pictures_stop_the_run_with_what_they_are(
    gate: Callable[..., list[str]], tmp_path: Path
) -> None:
    data = {"train": rows(*ALL * 2), "eval": rows(*ALL), "test": rows(*ALL)}
    strange = [Reject(f"daisy/{i}.dat", "daisy", "identify", f"{NO_PICTURE}.dat, by its content") for i in range(13)]
    assert gate(ignored=[*strange[:12], Reject("daisy/1.json", "", "find", "beside a picture")], **data) == [FIRST]
    with pytest.raises(InputError) as caught:
        gate(ignored=strange, **data)
    assert str(caught.value).splitlines()[1:] == [
        "- most of the files are no pictures: 13 .dat, and 12 that are; take them away, or name them in data.ignore. "
        f"All are listed in {tmp_path}/ignored.jsonl"
    ]


def test_a_class_of_files_that_are_no_pictures_stops_the_run(gate: Callable[..., list[str]]) -> None:
    page = Reject("owl/page", "owl", "identify", f"{NO_PICTURE}without an ending, by its content")
    with pytest.raises(InputError, match="the class owl has no pictures: 1 without an ending; take them away"):
        gate(ignored=[page], train=rows(*ALL * 3), eval=rows("daisy"), test=rows("daisy"))


def test_data_without_one_usable_image_stop_whatever_is_allowed(gate: Callable[..., list[str]]) -> None:
    with pytest.raises(InputError, match=r"2 of 2 files \(100.0%\) cannot be used") as caught:
        gate(rejected=2, train=[], eval=[], test=[])
    assert "no image is in" not in str(caught.value), "one cause, one problem"


def test_pictures_of_several_labels_are_left_out_within_their_own_bound(
    gate: Callable[..., list[str]], tmp_path: Path
) -> None:
    def copies(number: int) -> list[Reject]:
        reasons = [f"the same image has 2 labels: daisy (d{i}), roses (r{i})" for i in range(number // 2)]
        return [Reject(f"{i}", "daisy", "contradicting", reasons[i // 2]) for i in range(number)]

    data = {split: rows(*ALL * 22) for split in ("train", "eval", "test")}
    message = "{} of {} images ({}%) are left out, since identical ones have other labels (data.bounds.contradicting "
    assert gate(left_out=copies(2), **data) == [
        message.format(2, 200, "1.00") + "allows 1.00%): the same image has 2 labels: daisy (d0), roses (r0); all are "
        "listed in left_out.jsonl of the data's record, and in the report",
        FIRST,
    ]
    with pytest.raises(InputError) as caught:
        gate(left_out=copies(8), **data)
    assert str(caught.value).splitlines()[1:] == [
        "- "
        + message.format(8, 206, "3.88")
        + "allows 1.00%): the same image has 2 labels: daisy (d0), roses (r0); the same image has 2 labels: "
        "daisy (d1), roses (r1); the same image has 2 labels: daisy (d2), roses (r2); and 1 more. Remove those whose "
        "label is wrong, or raise data.bounds.contradicting to train without them all. They are listed in "
        f"{tmp_path}/left_out.jsonl"
    ]
    assert gate(left_out=copies(8), bounds={"contradicting": 0.05}, **data)[1:] == [FIRST]


def test_near_duplicates_of_two_labels_are_only_told(gate: Callable[..., list[str]]) -> None:
    near = DuplicateGroup("near", ["daisy/1.png", "roses/7.bmp"], ["daisy", "roses"], ["train", "train"])
    notes = gate(duplicates=[near], train=rows(*ALL), eval=rows("daisy"), test=rows("daisy"))
    assert notes[0].startswith("1 images show the same as another, exactly or nearly")
    assert notes[1].startswith("near-duplicates of different classes: daisy/1.png (daisy) and roses/7.bmp (roses)")


def test_a_leak_between_given_splits_stops_beyond_its_bound(gate: Callable[..., list[str]]) -> None:
    across = DuplicateGroup("identical", ["test/a/1.png", "train/a/9.png"], ["a", "a"], ["test", "train"])
    splits = {"train": rows(*ALL), "eval": rows("daisy")}
    with pytest.raises(InputError) as caught:
        gate(duplicates=[across], test=rows(*["daisy"] * 98), **splits)
    assert "1 of 99 images of eval and test (1.0%) are in another split too" in str(caught.value)
    assert "    the same image: test/a/1.png (test) and train/a/9.png (train)" in str(caught.value)
    notes = gate(duplicates=[across], test=rows(*["daisy"] * 99), **splits)
    assert notes[0].startswith("1 of 100 images of eval and test (1.0%) are in another split too")


def test_a_group_in_several_given_splits_is_a_leak(gate: Callable[..., list[str]]) -> None:
    paths = ["eval/a/1.png", "test/b/2.png", "train/a/9.png"]
    patient = DuplicateGroup("group", paths, ["a", "b", "a"], ["eval", "test", "train"])
    splits = {"train": rows(*ALL), "eval": rows("daisy")}
    with pytest.raises(InputError) as caught:
        gate(duplicates=[patient], test=rows(*["daisy"] * 9), **splits)
    assert "2 of 10 images of eval and test (20.0%) are in another split too, or their group is" in str(caught.value)
    shown = "eval/a/1.png (eval) and test/b/2.png (test) and train/a/9.png (train)"
    assert f"    one group of data.group_by: {shown}" in str(caught.value)
    notes = gate(duplicates=[patient], test=rows(*["daisy"] * 9), bounds={"leaked": 0.2}, **splits)
    assert not any("duplicate" in note for note in notes), "a group is none"


def test_an_image_that_statisticsgen_did_not_see_is_an_internal_error(gate: Callable[..., list[str]]) -> None:
    data = {"train": rows(*ALL), "eval": rows("daisy"), "test": rows("daisy")}
    with pytest.raises(ValueError, match="4 images were written to train; StatisticsGen saw 3"):
        gate(unseen=1, **data)


def test_a_large_group_of_near_duplicates_is_told(gate: Callable[..., list[str]]) -> None:
    group = DuplicateGroup("near", [f"a/{i}.png" for i in range(12)], ["a"] * 12, ["train"] * 12)
    notes = gate(duplicates=[group], train=rows(*ALL * 30), eval=rows("daisy"), test=rows("daisy"))
    assert notes[1].startswith("12 of 92 images are one group of near-duplicates, e.g. a/0.png, a/1.png, a/2.png")


def test_drift_against_the_last_blessed_data_names_the_images(gate: Callable[..., list[str]]) -> None:
    before = {"train": rows(*ALL * 20), "test": rows(*ALL * 5)}
    now = {"train": rows(*["daisy"] * 100, "roses", "tulips"), "eval": rows("daisy"), "test": rows("daisy")}
    with pytest.raises(InputError) as caught:
        gate(before=before, bounds={"label_drift": 0.3}, **now)
    assert str(caught.value).splitlines()[1:] == [
        "- label drifted since the last blessed model's data: 'daisy' was 33.3% of the images and is 98.1% (distance "
        "0.65; data.bounds.label_drift allows 0.3); such images: daisy/eval0.png, daisy/test0.png, daisy/train0.png, "
        "daisy/train1.png, daisy/train2.png"
    ]
    assert gate(before=before, **now)[2:] == [], "no bound, no problem; and the comparison was made"


def test_every_bound_of_the_data_is_judged(gate: Callable[..., list[str]]) -> None:
    data = {
        "train": rows(*ALL * 20),
        "eval": rows(*ALL * 10, **{"slice/light": "bright"}),
        "test": rows(*ALL * 3),
        "before": {"train": rows("daisy", "roses")},
    }
    with pytest.raises(InputError) as caught:
        gate(bounds={"split_skew": 0.3, "class_changes": 0, "min_class_share": 0.4}, **data)
    told = "\n".join(str(caught.value).splitlines()[1:])
    assert "light is skewed between train and eval: 'bright' is 0.0% of train and 100.0% of eval" in told
    assert "classes changed since the last blessed model's data; 1 appeared: tulips; images of those" in told
    assert "that appeared: tulips/eval2.png, tulips/eval5.png," in told
    assert "3 classes have less of train than data.bounds.min_class_share demands, 40.0%: 'daisy' (20, 33.3%)" in told


def test_rare_classes_that_take_all_groups_to_train_are_told(gate: Callable[..., list[str]]) -> None:
    with pytest.raises(
        InputError, match=r"no image is in eval and test: .*\(data\.group_by\).* 2 classes have fewer"
    ) as told:
        gate(group_by="patient", train=rows("daisy", *["tulip"] * 20, "rose"), eval=[], test=[])
    assert "data.min_class_images: 10 and data.small_classes: leave_out train without them" in str(told.value)


@pytest.mark.parametrize(("precision", "stops"), [(0.8, False), (0.9, True)])
def test_a_precision_that_so_few_eval_images_cannot_show_stops_before_anything_is_computed(
    gate: Callable[..., list[str]], precision: float, stops: bool
) -> None:
    splits = {"train": rows(*ALL * 3), "eval": rows(*ALL), "test": rows(*ALL)}
    wanted = to_json(AbstainConfig(precision=precision))
    if not stops:
        gate(abstain=wanted, **splits)
        return
    with pytest.raises(InputError, match=r"eval split has 3 of the 4 images that it takes .*: add images") as stopped:
        gate(abstain=wanted, **splits)
    assert "abstain.probability" in str(stopped.value)
