"""Batch inference: the records of `predict`, from any Beam runner and file system, whatever is wrong with a file."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.io.filesystem import FileMetadata, MatchResult
from apache_beam.io.localfilesystem import LocalFileSystem
from click.testing import CliRunner

from components.serving.served_model import ServedModel
from core.errors import InputError
from pipeline.cli.main import main
from pipeline.inference import batch_predict as batch_inference
from pipeline.inference.batch_predict import ClassifyFolder, batch_predict
from pipeline.inference.names import expand
from pipeline.inference.predict import predict
from tests.components.ingestion import harmed_decoder
from tests.conftest import ROOT
from tests.model_factory import image_bytes, save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("model") / "1"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty images in three folders, and all that can be wrong beside them."""
    folder = tmp_path / "photos"
    for number in range(40):
        path = folder / f"{'abc'[number % 3]}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(number % 3, seed=number))
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no image")
    (folder / "a/.hidden.jpg").write_text("not looked at")
    (folder / "metadata.csv").write_text("file_name\n")
    for left in ("@eaDir/1.jpg/THUMB.jpg", "lost+found/2.jpg", "a/Thumbs.db", "a/1.json", "a/clip.mov", "README"):
        (folder / left).parent.mkdir(parents=True, exist_ok=True)
        (folder / left).write_text("no image to classify")
    (folder / "broken.jpg").symlink_to(tmp_path / "absent")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")).write_bytes(image_bytes(1))
    return folder


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def by_path(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: record["path"])


def about(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, sorted, and the probabilities to five digits: other kernels compute a batch of another size."""
    return json.loads(json.dumps(by_path(records)), parse_float=lambda text: pytest.approx(float(text), abs=1e-5))


def test_the_records_are_those_of_predict(model: str, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "predictions.jsonl"

    counts = batch_predict(model, str(photos), str(output), top_k=2)

    assert by_path(read(output)) == about(list(predict(model, [*expand([photos])], top_k=2)))
    assert counts == (44, 3)
    assert [entry.name for entry in output.parent.iterdir()] == ["predictions.jsonl"]


def test_the_command_says_nothing_that_its_user_need_not_know(model: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(image_bytes(1))
    output = tmp_path / "out.jsonl"
    output.write_text("of an earlier job")
    command = [sys.executable, "-m", "pipeline", "batch-predict", "--model", model, "--output", output]
    done = subprocess.run([*command, tmp_path / "photos"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and len(read(output)) == 1


def test_a_picture_that_crashes_its_decoder_costs_no_other_its_answer(
    model: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_inference, "for_model", harmed_decoder.for_model)
    (photos / "crash.jpg").write_bytes(b"SIGSEGV")

    counts = batch_predict(model, str(photos), str(tmp_path / "out.jsonl"), top_k=1)

    assert counts == (45, 4)
    found = {record["path"]: record.get("error") for record in read(tmp_path / "out.jsonl")}
    assert found[str(photos / "crash.jpg")] == "its decoder crashed (SIGSEGV)"


def test_shards_of_csv_together_hold_a_row_per_image(model: str, photos: Path, tmp_path: Path) -> None:
    batch_predict(model, str(photos), str(tmp_path / "p.csv"), file_format="csv", shards=3)

    shards = sorted(tmp_path.glob("p-*"))
    assert [path.name for path in shards] == [f"p-0000{n}-of-00003.csv" for n in range(3)]
    rows = [row for shard in shards for row in csv.DictReader(shard.open())]
    assert len(rows) == 44 and sum(bool(row["error"]) for row in rows) == 3
    assert {row["class"] for row in rows if not row["error"]} == {"red", "green", "blue"}


def test_one_process_loads_the_model_once(model: str, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = ServedModel.__init__
    monkeypatch.setattr(ServedModel, "__init__", lambda self, folder: (loaded.append(folder), load(self, folder))[1])

    with beam.Pipeline() as pipeline:
        _ = pipeline | ClassifyFolder(str(photos), model, 1)

    assert loaded == [model]


class _Bucket(LocalFileSystem):
    """The local disk under another scheme, as a stand-in for a cloud's file system."""

    root = Path("/")

    @classmethod
    def scheme(cls) -> str:
        return "bucket"

    @classmethod
    def place(cls, path: str) -> str:
        return str(cls.root / path.removeprefix("bucket://"))

    def join(self, base: str, *paths: str) -> str:
        return "/".join([base.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        super().mkdirs(self.place(path))

    def match(self, patterns: list[str], limits: list[int] | None = None) -> list[MatchResult]:
        found = super().match([self.place(pattern) for pattern in patterns], limits)
        local = str(self.root)
        return [
            MatchResult(
                pattern, [FileMetadata(f.path.replace(f"{local}/", "bucket://"), 1) for f in result.metadata_list]
            )
            for pattern, result in zip(patterns, found, strict=True)
        ]

    def create(self, path: str, *args: Any, **more: Any) -> Any:
        return super().create(self.place(path), *args, **more)

    def open(self, path: str, *args: Any, **more: Any) -> Any:
        return super().open(self.place(path), *args, **more)

    def rename(self, sources: list[str], targets: list[str]) -> None:
        super().rename([self.place(path) for path in sources], [self.place(path) for path in targets])

    def exists(self, path: str) -> bool:
        return super().exists(self.place(path))

    def delete(self, paths: list[str]) -> None:
        super().delete([self.place(path) for path in paths])


def test_another_file_system_is_read_and_written(model: str, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Bucket, "root", photos.parent)
    shutil.rmtree(photos / "b")
    (photos / "broken.jpg").unlink()  # such a file system has no links, and no names that are not UTF-8
    next(photos.glob("caf*")).unlink()

    counts = batch_predict(model, "bucket://photos/", "bucket://out/p.jsonl")

    expected = [
        r | {"path": r["path"].replace(str(photos), "bucket://photos")} for r in predict(model, [*expand([photos])])
    ]
    assert by_path(read(photos.parent / "out/p.jsonl")) == about(expected)
    assert counts.errors == 2


def test_what_cannot_work_is_said_before_a_job_starts(model: str, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "a.jpg").write_bytes(image_bytes(0))
    for folder, message in (("absent", "there is no folder"), ("nothing", "there are no pictures in")):
        with pytest.raises(InputError, match=message):
            batch_predict(model, str(tmp_path / folder), str(tmp_path / "out.jsonl"))
    with pytest.raises(InputError, match="there is no model in"):
        batch_predict(str(tmp_path), str(tmp_path), str(tmp_path / "out.jsonl"))
    with pytest.raises(InputError, match="shards is 0"):
        batch_predict(model, str(tmp_path), str(tmp_path / "out.jsonl"), shards=0)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("output", ["", " ", ".", "kept", "kept/", "./kept/.."])
def test_no_folder_is_taken_for_the_file_to_write(
    output: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beam deletes what is in the place of its output: a forgotten OUTPUT was once the current folder."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "one.png").write_bytes(image_bytes(0))
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError, match="OUTPUT"):
        batch_predict(model, "kept", output)
    said = CliRunner().invoke(main, ["batch-predict", "--model", model, "--output", output, "kept"])

    assert said.exit_code == 2 and ("OUTPUT is" in said.output or "'--output': it is empty" in said.output)
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "one.png"]


def test_the_command_says_what_could_not_be_classified(model: str, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "predictions.csv"
    options = ["--model", model, "--format", "csv", "--top", "1", "--output", str(output)]

    done = CliRunner().invoke(main, ["batch-predict", *options, str(photos)])

    assert done.exit_code == 2 and "3 of 44 images could not be classified" in done.output
    assert output.read_text().startswith("path,class,probability,class_1,probability_1,novelty,reason,error\n")
