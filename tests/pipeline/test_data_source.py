"""Data sets of TensorFlow Datasets by their names, and past failures by their folder."""

import sys
from pathlib import Path

import pytest

from components.ingestion.image_reading import read_image
from components.ingestion.image_records import read_records
from core.errors import InputError
from core.settings import load
from pipeline.data_source import (
    check_classes,
    check_regressions,
    check_run_folder,
    images_folder,
    list_regressions,
    prepare_tfds,
)
from tests.components.ingestion.listings import read_layout
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


def test_past_failures_may_be_of_one_class_and_must_be_of_one_that_the_data_have(tmp_path: Path) -> None:
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "1.png").touch()
    settings = load(ROOT / "configs" / "digits.yaml", [f"evaluation.regressions={tmp_path}"])
    found = list_regressions(settings)
    assert found and [file.label for file in found.files] == ["3"]
    schema = (ROOT / "schemas" / "digits.pbtxt").read_text()
    check_regressions(found, schema)
    (tmp_path / "3").rename(tmp_path / "three")
    found = list_regressions(settings)
    assert found
    with pytest.raises(InputError, match=r"has images of three, and the data have no such class: they have 0, 1"):
        check_regressions(found, schema)
    assert list_regressions(load(ROOT / "configs" / "digits.yaml")) is None


@pytest.mark.parametrize(
    ("root", "override", "said"),
    [
        (
            "photos/build",
            "",
            'another folder with ROOT and move build out, or pass over it with data.ignore: ["/build/"]',
        ),
        (".", "name=photos", "where they would be taken for a class: give another folder with ROOT"),
        ("photos/build", 'data.ignore=["/build/"]', ""),
        ("photos/build", "data.images=photos/{SPAN}", ""),
        ("build", "", ""),
        ("photos-build", "", ""),
    ],
)
def test_a_run_keeps_its_files_out_of_the_images(
    root: str, override: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    settings = load(ROOT / "configs" / "digits.yaml", [f"data.images={tmp_path}/photos", *filter(None, [override])])
    images = images_folder(settings, tmp_path / "unused")
    folder = tmp_path / root / settings.name
    if not said:
        check_run_folder(settings, images, folder)
        return
    with pytest.raises(InputError) as stopped:
        check_run_folder(settings, images, folder)
    assert said in str(stopped.value)


@pytest.mark.parametrize(
    ("classes", "fit"), [(("owl", "wren"), False), (("0", "owl", "wren"), False), (("0", "1", "owl"), True)]
)
def test_images_of_other_classes_than_the_schema_stop_before_any_stage(
    classes: tuple[str, ...], fit: bool, tmp_path: Path
) -> None:
    """Above all those that are given to the settings of the digits, the default."""
    for name in classes:
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    settings = load(ROOT / "configs" / "digits.yaml", [f"data.images={tmp_path}"])
    listing, schema = read_layout(str(tmp_path)), (ROOT / "schemas" / "digits.pbtxt").read_text()
    if fit:
        check_classes(settings, listing, schema)
        return
    with pytest.raises(InputError, match=r"do not fit the schema schemas/digits\.pbtxt: 2 of .*CONFIG=birds\.yaml"):
        check_classes(settings, listing, schema)


@pytest.mark.parametrize(
    ("made", "said"),
    [(False, r"evaluation.regressions .*past does not exist"), (True, r"evaluation.regressions .*past holds 0 files")],
    ids=["none", "empty"],
)
def test_a_folder_of_past_failures_that_holds_none_stops_the_run(made: bool, said: str, tmp_path: Path) -> None:
    if made:
        (tmp_path / "past").mkdir()
    settings = load(ROOT / "configs" / "digits.yaml", [f"evaluation.regressions={tmp_path}/past"])
    with pytest.raises(InputError, match=said):
        list_regressions(settings)
