"""`make monitor` on real images, with a small model that lies where a run would have pushed it, and nothing else."""

import csv
import datetime
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner, Result

from components.evaluation.reference import reference
from components.ingestion import slice_features
from components.ingestion.image_reading import read_image
from core.artifacts.monitoring import MONITORED, REFERENCE, Monitored, MonitoringConfig
from core.artifacts.predictions import Prediction
from core.artifacts.request_log import LoggedImage
from core.settings.monitoring import MonitoringSettings
from pipeline.cli.main import main
from pipeline.monitoring import observing
from tests.components.ingestion import harmed_decoder
from tests.conftest import ROOT
from tests.model_factory import COLORS, image_bytes, save_model

BOUNDARIES = {"resolution": [0.0002, 0.001], "brightness": [0.2, 0.5]}
N = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version that was pushed an hour ago, judged on sixty JPEGs of 24 pixels, of which it has all right."""
    version = save_model(tmp_path_factory.mktemp("serving") / str(int(time.time()) - 3600))
    predictions = []
    for number in range(N):
        values = slice_features.describe(read_image(image_bytes(number % 3, seed=number)), BOUNDARIES)
        label = COLORS[number % 3]
        predictions.append(Prediction(label, 0.99, 0.99, 1, f"{number}.jpg", "", label, values))
    config = MonitoringConfig(BOUNDARIES, slice_features.NAMES, MonitoringSettings())
    REFERENCE.write(version, reference(predictions, COLORS, config))
    return version


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images as the test split's, and one that is none."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "=day").mkdir()
    for number in range(N):
        (folder / "=day" / f"{number}.jpg").write_bytes(image_bytes(number % 3, seed=1000 + number))
    (folder / "none.jpg").write_text("no picture")
    return folder


def run(model: Path, images: Path | str, output: Path, *options: str) -> Result:
    given = [
        "--config",
        str(ROOT / "configs" / "digits.yaml"),
        "--root",
        str(output / "nothing"),
        "--model",
        str(model),
    ]
    return CliRunner().invoke(main, ["monitor", *given, "--output", str(output), *options, str(images)])


def read(output: Path) -> tuple[Monitored, list[dict[str, str]], str]:
    found = MONITORED.read(output)
    jsonschema.validate(json.loads((output / "monitored.json").read_text()), MONITORED.schema())
    with (output / "label_next.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert found.to_label == len(rows)
    return found, rows, (output / "monitoring.html").read_text()


def test_production_as_the_test_split_was_is_within_bounds(model: Path, photos: Path, tmp_path: Path) -> None:
    done = run(model, photos, tmp_path, "--count", "20")
    assert done.exit_code == 0, done.output
    found, rows, page = read(tmp_path)
    assert (found.images, found.unreadable, found.since_push, found.broken) == (N + 1, 1, N + 1, [])
    assert found.pushed and found.age_days == 0.0 and found.first and found.first <= str(found.last)
    assert found.expected_accuracy.low <= 1.0 <= found.expected_accuracy.high
    assert {one.class_name: round(one.estimated.value, 1) for one in found.classes} == dict.fromkeys(COLORS, 0.3)
    assert "within bounds" in done.output
    assert "Within bounds" in page and str(photos) in page
    assert len(rows) == 20 and {row["why"] for row in rows} == {"random", "uncertain"}
    assert all(row["file_name"].startswith("'=day/") and row["label"] == "" for row in rows)  # no formula
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_picture_that_crashes_its_decoder_is_one_that_cannot_be_read(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "read_image", harmed_decoder.read_image)
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos/crash.jpg").write_bytes(b"SIGSEGV")
    done = run(model, tmp_path / "photos", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found, _, _ = read(tmp_path / "out")
    assert (found.images, found.unreadable) == (N + 2, 2)


def test_other_images_are_beyond_bounds_with_exit_code_3(model: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(40):
        data = image_bytes(2, seed=number, side=60, format="PNG")
        (tmp_path / "photos" / f"{number}.png").write_bytes(data)
    done = run(model, tmp_path / "photos", tmp_path / "out")
    assert done.exit_code == 3, done.output
    found, _, page = read(tmp_path / "out")
    names = {one.name for one in found.broken}
    assert {"format=png", "format=jpeg", "predicted as blue", "resolution=large (>=0.001)"} <= names
    assert "beyond bounds" in done.output and "format=png: 0.0%" in done.output and "Beyond bounds" in page
    assert found.classes[0].class_name == "blue" and found.classes[0].predicted == 1
    assert found.expected_accuracy.value is None and found.classes[0].estimated.value is None
    assert "neither accuracy nor classes are estimated: these images are of other kinds" in done.output


def test_labels_that_arrive_later_are_those_of_the_list_that_asked_for_them(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    assert run(model, photos, tmp_path / "first", "--count", "60").exit_code == 0
    _, rows, _ = read(tmp_path / "first")
    for row in rows:
        number = int(Path(row["file_name"]).stem)
        row["label"] = COLORS[number % 3] if row["why"] == "random" else "violet"
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows([*rows, {"file_name": "gone.jpg", "label": "red", "why": "random"}])
    done = run(model, photos, tmp_path / "second", "--labels", str(tmp_path / "labels.csv"))
    assert done.exit_code == 0, done.output
    found, _, page = read(tmp_path / "second")
    assert found.measured and (found.measured.labels, found.measured.used) == (60, 15)
    assert found.measured.accuracy.value is None  # of fifteen labels
    said = " ".join(found.measured.notes)
    assert "1 labels are of images that are not here: gone.jpg" in said and "the model has no class violet" in said
    assert "45 labels are of images that were chosen" in said and "30 are the least" in said and "Measured by" in page


def test_wrong_labels_of_images_that_stand_for_production_break_the_bound(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    lines = [f"=day/{number}.jpg;{COLORS[(number + number % 2) % 3]}" for number in range(N)]
    (tmp_path / "labels.csv").write_text("\n".join(["file_name;label", *lines]))
    done = run(model, photos, tmp_path / "out", "--labels", str(tmp_path / "labels.csv"))
    assert done.exit_code == 3, done.output
    found, _, _ = read(tmp_path / "out")
    assert [one.name for one in found.broken] == ["measured accuracy"]
    assert found.measured and found.measured.used == N and found.measured.accuracy.value == 0.5
    assert found.measured.slices["format=jpeg"].value == 0.5


def test_labels_that_contradict_each_other_count_for_nothing(model: Path, photos: Path, tmp_path: Path) -> None:
    lines = [f"=day/{number}.jpg;{COLORS[number % 3]}" for number in range(N)]
    (tmp_path / "labels.csv").write_text("\n".join(["file_name;label", *lines, *lines, "=day/7.jpg;red"]))
    done = run(model, photos, tmp_path / "out", "--labels", str(tmp_path / "labels.csv"))
    assert done.exit_code == 0, done.output
    found, _, _ = read(tmp_path / "out")
    assert found.measured and found.measured.used == N - 1 and found.measured.accuracy.value == 1
    assert "1 images have several labels, and none counts: =day/7.jpg" in found.measured.notes


def log_line(number: int, version: int, kept: bool) -> LoggedImage:
    when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    probabilities = {name: 0.98 if name == COLORS[number % 3] else 0.01 for name in COLORS}
    label = COLORS[number % 3]
    file = f"images/{number}" if kept else None
    return LoggedImage(when, "digits", version, label, 0.98, probabilities, "", "", 0.3, "JPEG", 24, 24, 900, file)


def test_the_log_of_a_model_server_is_read_without_asking_the_model_again(model: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    (log / "images").mkdir(parents=True)
    for number in range(35):
        (log / "images" / f"{number}").write_bytes(image_bytes(number % 3, seed=number))
    lines = [log_line(number, int(model.name), number < 40) for number in range(50)] + [log_line(0, 17, kept=False)] * 3
    (log / "requests-20261130.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    done = run(model, log, tmp_path / "out")
    assert done.exit_code == 0, done.output
    found, rows, _ = read(tmp_path / "out")
    assert found.images == found.since_push == 50
    assert "3 images of the log were not looked at: another version of the model answered them" in found.notes
    assert {one.name: one.state for one in found.findings}["more novel than 95% of the eval images"] == "kept"
    assert {row["file_name"] for row in rows} == {f"images/{number}" for number in range(35)}  # the others are gone
    assert {"format=jpeg", "aspect=square", "brightness=bright (>=0.5)"} & {one.name for one in found.findings}


def test_damaged_lines_of_a_log_are_passed_over_and_told_of(model: Path, tmp_path: Path) -> None:
    good = [msgspec.json.encode(log_line(number, int(model.name), kept=False)) for number in range(40)]
    bad = [b"\xff\x00", b"[]", b'{"time": "2026-', good[0].replace(b'"time":"2', b'"time":"x'), b"", good[0][:-40]]
    (tmp_path / "requests-1.jsonl").write_bytes(b"\n".join([*good[:20], *bad, *good[20:], b'{"half'])[:-1])
    done = run(model, tmp_path, tmp_path / "out")
    assert done.exit_code == 0, done.output
    found, _, _ = read(tmp_path / "out")
    assert found.images == 40
    (note,) = [note for note in found.notes if "damaged" in note]
    assert note.startswith("6 lines of the log are damaged, and were passed over: line 21 of requests-1.jsonl: ")


@pytest.mark.parametrize("count", ["1", "1000000000"])
def test_as_many_images_are_to_be_labeled_as_there_are(count: str, model: Path, photos: Path, tmp_path: Path) -> None:
    assert run(model, photos, tmp_path, "--count", count).exit_code == 0
    _, rows, page = read(tmp_path)
    assert len(rows) == min(int(count), N) and len({row["file_name"] for row in rows}) == len(rows)
    assert page.count("data:image/jpeg;base64,") == (1 if count == "1" else 8)  # a random sample of all


def test_a_single_image_and_files_that_are_no_pictures_are_too_few_to_say_anything(model: Path, tmp_path: Path) -> None:
    for name in ("empty.jpg", "no picture.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"" if name == "empty.jpg" else b"text")
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(image_bytes(0))
    done = run(model, tmp_path, tmp_path / "out")
    assert done.exit_code == 0, done.output
    found, rows, _ = read(tmp_path / "out")
    assert (found.images, found.unreadable, found.findings) == (3, 2, [])
    assert "production has 3 images, and 30 are the least" in done.output and len(rows) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:200],
        lambda text: text.replace('"images": 60', '"images": 0'),
        lambda text: text.replace('"readable": 60', '"readable": 61'),
        lambda text: text.replace('"red"', '"violet"'),
        lambda text: text.replace('"schema_version": 1', '"schema_version": 9'),
    ],
    ids=["cut", "none", "more", "classes", "version"],
)
def test_what_lies_beside_the_model_and_was_changed_is_told(
    change: Callable[[str], str], model: Path, photos: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "17"
    shutil.copytree(model, changed)
    text = Path(REFERENCE.path(changed)).read_text()
    assert change(text) != text
    Path(REFERENCE.path(changed)).write_text(change(text))
    done = run(changed, photos, tmp_path / "out")
    assert done.exit_code == 2 and str(REFERENCE.path(changed)) in done.output, done.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": "/nowhere"}, "there is no folder /nowhere"),
        ({"options": ["--labels", "/nowhere.csv"]}, "the labels /nowhere.csv cannot be read"),
        ({"options": ["--count", "0"]}, "count is 0; it must be at least 1"),
        ({"options": ["--output", "/proc/nope"]}, "/proc/nope cannot be written: "),
        ({"model": "/nowhere"}, "there is no model in /nowhere"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_what_cannot_be_monitored_is_told(change: dict, said: str, model: Path, photos: Path, tmp_path: Path) -> None:
    done = run(change.get("model", model), change.get("images", photos), tmp_path, *change.get("options", ()))
    assert done.exit_code == 2 and said in done.output


def test_a_model_that_no_run_has_pushed_is_told(photos: Path, tmp_path: Path) -> None:
    done = run(save_model(tmp_path / "export"), photos, tmp_path / "out")
    assert done.exit_code == 2 and "has no monitoring.json beside it" in done.output
