"""ValidationGate on what StatisticsGen and ExampleValidator really write: fit data pass, all else is told in words."""

import logging
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.components.example_validator.executor import Executor
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import ExampleAnomalies, ExampleStatistics, Schema

from components.validation_gate import ValidationGate
from trainer.errors import InputError

SCHEMA = """
feature { name: "label" type: BYTES domain: "classes" presence { min_fraction: 1 } shape { dim { size: 1 } } }
feature { name: "slice/light" type: BYTES presence { min_fraction: 1 min_count: 1 } shape { dim { size: 1 } } }
feature { name: "image/width" type: INT int_domain { min: 1 } presence { min_fraction: 1 } shape { dim { size: 1 } } }
string_domain { name: "classes" value: "daisy" value: "roses" value: "tulips" }
"""
FILE = "schemas/flowers.pbtxt"
Row = dict[str, str | int]


def rows(*labels: str, **features: str | int) -> list[Row]:
    return [{"label": label, "slice/light": "dark", "image/width": 20} | features for label in labels]


ALL = ("daisy", "roses", "tulips")


@pytest.fixture
def gate(tmp_path: Path) -> Callable[..., None]:
    """Runs statistics, validation and the gate on the rows of each split."""

    def run(schema: str = SCHEMA, as_files: bool = False, **splits: list[Row]) -> None:
        names = artifact_utils.encode_split_names(list(splits))
        statistics, anomalies, schema_artifact = ExampleStatistics(), ExampleAnomalies(), Schema()
        for made, folder in ((statistics, "statistics"), (anomalies, "anomalies"), (schema_artifact, "schema")):
            made.uri = str(tmp_path / folder)
            (tmp_path / folder).mkdir()
        statistics.split_names = names
        (tmp_path / "schema/schema.pbtxt").write_text(schema)
        for name, data in splits.items():
            (tmp_path / f"statistics/Split-{name}").mkdir()
            if as_files or not data:
                proto = _statistics_of_files(data, tmp_path)
            else:  # the same proto in a hundredth of the time
                proto = tfdv.generate_statistics_from_dataframe(pd.DataFrame(data))
            (tmp_path / f"statistics/Split-{name}/FeatureStats.pb").write_bytes(proto.SerializeToString())
        Executor().Do({"statistics": [statistics], "schema": [schema_artifact]}, {"anomalies": [anomalies]}, {})
        ValidationGate.test_call(anomalies=anomalies, statistics=statistics, schema_file=FILE)

    return run


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


def test_fit_data_pass(gate: Callable[..., None]) -> None:
    gate(train=rows(*ALL), eval=rows("daisy"), test=rows("roses"))


@pytest.mark.slow
def test_an_unknown_class_is_told_once_with_its_images(gate: Callable[..., None]) -> None:
    with pytest.raises(InputError) as caught:
        gate(as_files=True, train=rows(*ALL, "rose", "rose", "chât"), eval=rows("daisy", "rose"), test=rows("daisy"))

    assert str(caught.value).splitlines() == [
        "the images do not fit schemas/flowers.pbtxt:",
        "- label: 'chât' (1 in train) is not in its domain in schemas/flowers.pbtxt; "
        "add it there if it is meant, otherwise rename or remove the folder 'chât'",
        "- label: 'rose' (2 in train, 1 in eval) is not in its domain in schemas/flowers.pbtxt "
        "(did you mean 'roses'?); add it there if it is meant, otherwise rename or remove the folder 'rose'",
    ]


def test_a_class_without_images_to_train_on_stops(gate: Callable[..., None]) -> None:
    with pytest.raises(InputError) as caught:
        gate(train=rows("daisy"), eval=rows("daisy", "roses"), test=rows("daisy"))

    assert str(caught.value).splitlines()[1:] == [
        "- the class 'roses' has no images in train (there are 1 in eval): add images of it, or remove it from the "
        "domain of label in schemas/flowers.pbtxt and its folder",
        "- the class 'tulips' has no images in train: add images of it, or remove it from the domain of label in "
        "schemas/flowers.pbtxt",
    ]


def test_a_split_without_images_stops(gate: Callable[..., None]) -> None:
    with pytest.raises(InputError) as caught:
        gate(train=rows(*ALL), eval=[], test=rows("roses"))

    assert str(caught.value).splitlines()[1:] == [
        "- the split eval has no images: add images, or give it a larger share in data.splits"
    ]


def test_every_other_anomaly_is_told_with_split_and_advice(gate: Callable[..., None]) -> None:
    incomplete = rows("daisy")
    del incomplete[0]["slice/light"]
    bare = [{k: v for k, v in row.items() if k != "slice/light"} for row in rows("daisy", **{"image/width": 0})]

    with pytest.raises(InputError) as caught:
        gate(train=rows(*ALL) + incomplete, eval=bare, test=rows("daisy", extra=1))

    lines = str(caught.value).splitlines()[1:]
    assert any(
        line.startswith("- slice/light (in train): Column dropped: The feature was present in fewer examples")
        and line.endswith("give every image a value, or lower min_fraction in schemas/flowers.pbtxt")
        for line in lines
    )
    assert (
        "- slice/light (in eval): Column dropped: Column is completely missing; give every image a value, "
        "or remove the feature from schemas/flowers.pbtxt"
    ) in lines
    assert (
        "- image/width (in eval): Out-of-range values: Unexpectedly small value: 0; "
        "correct the data, or change schemas/flowers.pbtxt if this is meant"
    ) in lines
    assert any(line.startswith("- extra (in test): New column") and "inferred anew" in line for line in lines)


def test_many_unknown_classes_do_not_flood(gate: Callable[..., None]) -> None:
    strange = [f"strange{i:02d}" for i in range(25)]

    with pytest.raises(InputError) as caught:
        gate(train=rows(*ALL, *strange), eval=rows("daisy"), test=rows("daisy"))

    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 21
    assert lines[-1] == "- label: 5 more values are not in its domain in schemas/flowers.pbtxt"


def test_unknown_values_of_metadata_are_told_apart_from_folders(gate: Callable[..., None]) -> None:
    schema = SCHEMA.replace('"slice/light" type: BYTES', '"slice/light" type: BYTES string_domain { value: "dark" }')

    with pytest.raises(InputError, match=r"slice/light: 'drak' \(1 in test\).*did you mean 'dark'.*in the metadata"):
        gate(schema, train=rows(*ALL), eval=rows("daisy"), test=rows("daisy", **{"slice/light": "drak"}))


def test_more_classes_than_tfdv_lists_are_counted(gate: Callable[..., None]) -> None:
    schema = text_format.Parse(SCHEMA, schema_pb2.Schema())
    classes = [f"class{i:04d}" for i in range(1100)]
    schema.string_domain[0].value[:] = [*classes, "one more"]

    with pytest.raises(InputError) as caught:
        gate(text_format.MessageToString(schema), train=rows(*classes), eval=rows("class0001"), test=rows("class0002"))

    assert str(caught.value).splitlines()[1:] == [
        "- only 1100 of the 1101 classes in schemas/flowers.pbtxt have images in train"
    ]


def test_warnings_are_logged_and_do_not_stop(gate: Callable[..., None], tmp_path: Path, caplog) -> None:
    gate(train=rows(*ALL), eval=rows("daisy"), test=rows("daisy"))
    path = tmp_path / "anomalies/Split-test/SchemaDiff.pb"
    anomalies = anomalies_pb2.Anomalies.FromString(path.read_bytes())
    anomalies.anomaly_info["label"].severity = anomalies_pb2.AnomalyInfo.WARNING
    anomalies.anomaly_info["label"].short_description = "High L-infinity distance"
    anomalies.anomaly_info["label"].description = "It is 0.4."
    path.write_bytes(anomalies.SerializeToString())
    artifacts = {"anomalies": ExampleAnomalies(), "statistics": ExampleStatistics()}
    for name, artifact in artifacts.items():
        artifact.uri = str(tmp_path / name)
        artifact.split_names = artifact_utils.encode_split_names(["test"])

    with caplog.at_level(logging.WARNING, "components.validation_gate"):
        ValidationGate.test_call(**artifacts, schema_file=FILE)

    assert caplog.messages == [
        "label (in test): High L-infinity distance: It is 0.4; "
        "correct the data, or change schemas/flowers.pbtxt if this is meant"
    ]
