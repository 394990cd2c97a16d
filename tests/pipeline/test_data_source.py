"""Data sets of TensorFlow Datasets by their names."""

import sys
from pathlib import Path

import pytest

from components.ingestion.image_layout import read_layout
from components.ingestion.image_reading import read_image
from components.ingestion.image_records import read_records
from core.errors import InputError
from core.settings import load
from pipeline.data_source import images_folder, prepare_tfds
from tests.conftest import ROOT


def test_a_data_set_of_tensorflow_datasets_is_prepared_and_read(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_datasets", reason="the extra tfds is not installed")
    from tests.components import tiny_flowers

    folder = prepare_tfds("tiny_flowers", str(tmp_path))
    assert prepare_tfds("tiny_flowers", str(tmp_path)) == folder, "kept where it was prepared"
    listing = read_layout(folder)
    assert (listing.layout, listing.given, listing.classes()) == ("tfrecords", ("train", "test"), ["daisy", "roses"])
    assert (listing.names.image, listing.names.label) == (("photo",), ("kind",))
    assert not any(file.problem for file in listing.files)
    for file in listing.files:
        records = list(read_records(folder, file.path, listing.names))
        assert len(records) == tiny_flowers.COUNTS[file.split]
        assert {record.label for record in records} == {"daisy", "roses"}
        assert all(read_image(record.data).format == "png" for record in records)


def test_a_data_set_that_nobody_knows_is_told(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_datasets", reason="the extra tfds is not installed")
    with pytest.raises(InputError, match="TensorFlow Datasets knows no 'no_such_flowers'"):
        prepare_tfds("no_such_flowers", str(tmp_path))


def test_a_data_set_is_prepared_in_another_process(tmp_path: Path) -> None:
    """TensorFlow, which runs there, has not run here when the stages are forked."""
    settings = load(ROOT / "configs" / "digits.yaml", ["data.images=tfds:no_such_flowers"])
    with pytest.raises(InputError, match=r"no 'no_such_flowers'|needs the extra `tfds`"):
        images_folder(settings, tmp_path)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match="uv sync --extra tfds"):
        prepare_tfds("tf_flowers")
