import json
from datetime import date
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from core.errors import InputError
from core.settings import loading
from pipeline import schema
from pipeline.deployment import Deployment
from pipeline.pipeline import create_pipeline
from tests.components.conftest import image_folder, picture
from tests.components.ingestion import harmed_decoder
from tests.components.ingestion.listings import read_layout
from tests.conftest import ROOT

__all__ = ["image_folder"]  # a fixture


def folders(tmp_path, *names):
    for name in names:
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "1.jpg").touch()
    return tmp_path / "images"


def load_or_infer(path, images, metadata=""):
    return schema.load_or_infer(path, "flowers", read_layout(str(images), metadata=metadata))


def test_the_classes_are_inferred_until_they_are_kept_for_review(tmp_path):
    images = folders(tmp_path, "roses", "daisy", ".hidden")
    path = tmp_path / "schemas" / "flowers.pbtxt"
    text, inferred = load_or_infer(path, images)
    assert inferred and not path.exists()
    assert load_or_infer(path, images).text == text, "so that nothing is computed anew"
    schema.keep(path, text)
    assert path.read_text() == text
    assert list(schema.parse(text, "").string_domain[0].value) == ["daisy", "roses"]

    (images / "tulips").mkdir()
    (images / "tulips" / "1.jpg").touch()
    again, inferred = load_or_infer(path, images)
    assert again == text and not inferred
    path.write_text("reviewed since")
    with pytest.raises(FileExistsError, match="has come to be there since"):
        schema.keep(path, text)
    assert path.read_text() == "reviewed since"


def test_a_schema_says_what_it_was_inferred_from_and_when(tmp_path):
    images = folders(tmp_path, "daisy", "roses 'n' \"co\" é")
    text, _ = load_or_infer(tmp_path / "s.pbtxt", images)
    (comment,) = schema.parse(text, "").annotation.comment
    said = f"inferred on {date.today()} from the 2 classes in {images} (class folders: 2 files in 2 classes)"
    assert comment == said and said in text[:1000]
    assert 'value: "roses \\\'n\\\' \\"co\\" é"' in text


def test_columns_of_the_metadata_become_slice_features(tmp_path):
    images = folders(tmp_path, "daisy", "roses")
    (images / "metadata.csv").write_text("file_name,camera\nroses/1.jpg,phone\n")
    text, _ = load_or_infer(tmp_path / "s.pbtxt", images, "metadata.csv")
    names = schema.feature_names(text)
    assert {"slice/camera", "slice/brightness", "label"} <= set(names)
    assert "image/encoded" not in names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("feature { nam", "is not a schema in protobuf's text format"),
        ('feature { name: "label" }', "lacks the features image/encoded"),
    ],
)
def test_a_schema_that_is_none_is_refused(tmp_path, text, said):
    path = tmp_path / "s.pbtxt"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        load_or_infer(path, folders(tmp_path, "daisy", "roses"))


def test_a_schema_from_an_editor_that_marks_its_files_is_read(tmp_path):
    path, images = tmp_path / "s.pbtxt", folders(tmp_path, "daisy", "roses")
    text, _ = load_or_infer(path, images)
    path.write_text(text, encoding="utf-8-sig")
    assert load_or_infer(path, images) == (text, False)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"the schema .*s\.pbtxt cannot be read: 'utf-8' codec"):
        load_or_infer(path, images)


def test_a_picture_that_crashes_its_decoder_costs_no_schema(tmp_path, image_folder, monkeypatch):
    images = image_folder(cat=20, dog=20)
    expected = schema.bucket_boundaries(load_or_infer(tmp_path / "s.pbtxt", images).text)
    monkeypatch.setattr(schema, "statistics_of", harmed_decoder.statistics_of)
    (images / "cat" / "crash.jpg").write_bytes(b"SIGSEGV")
    assert schema.bucket_boundaries(load_or_infer(tmp_path / "s.pbtxt", images).text) == expected


def test_bucket_boundaries_are_measured_once_and_kept(tmp_path, image_folder):
    images, path = image_folder(cat=20, dog=20), tmp_path / "s.pbtxt"
    text, inferred = load_or_infer(path, images)
    schema.keep(path, text)
    boundaries = schema.bucket_boundaries(text)
    assert inferred and set(boundaries) == {"resolution", "brightness", "contrast", "sharpness", "colorfulness"}
    assert boundaries["resolution"] == [] and len(boundaries["brightness"]) == 2  # all pictures have one size
    assert 0 < boundaries["brightness"][0] < boundaries["brightness"][1] < 1

    for file in (images / "dog").iterdir():
        file.unlink()
    picture(99).save(images / "dog" / "other.png")
    again, inferred = load_or_infer(path, images)
    assert not inferred and schema.bucket_boundaries(again) == boundaries


def test_a_schema_without_boundaries_is_refused(tmp_path, image_folder):
    images, path = image_folder(cat=2, dog=2), tmp_path / "s.pbtxt"
    text, _ = load_or_infer(path, images)
    path.write_text(text.replace("bucket boundaries", "edges"))
    with pytest.raises(
        InputError, match=r"s\.pbtxt has no bucket boundaries of resolution; delete the file to have it inferred anew"
    ):
        load_or_infer(path, images)


def test_the_statistics_list_every_class() -> None:
    written = (ROOT / "schemas" / "digits.pbtxt").read_text()
    many = text_format.Parse(written, schema_pb2.Schema())
    (classes,) = (domain for domain in many.string_domain if domain.name == "classes")
    classes.value[:] = [f"class{i}" for i in range(1500)]
    loaded, listed = loading.load(ROOT / "configs/digits.yaml"), []
    for text in (written, text_format.MessageToString(many)):
        wired = create_pipeline(loaded, Deployment("/root", "/images", "/serving"), text)
        (statistics,) = (c for c in wired.components if c.id == "StatisticsGen")
        options = json.loads(statistics.exec_properties["stats_options_json"])
        listed.append(options["num_rank_histogram_buckets"])
    assert listed == [1000, 1500]


def test_a_place_where_no_schema_can_be_written_is_said(tmp_path):
    with pytest.raises(InputError, match=r"the schema /sys/no/flowers\.pbtxt cannot be written: .*data\.schema"):
        load_or_infer(Path("/sys/no/flowers.pbtxt"), folders(tmp_path, "daisy", "roses"))
