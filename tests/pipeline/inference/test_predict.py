"""Predictions: a record per file in order, read as at ingestion, and no broken file stops the others."""

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from components.ingestion import parallel
from components.serving.push import push
from core import checksums
from core.artifacts import tflite_archive
from core.artifacts.model_limits import MODEL_LIMITS
from core.artifacts.provenance import Origin
from core.errors import InputError
from core.image_limits import ImageLimits
from core.settings.push import CardSettings
from core.signing import private_key
from pipeline.cli.main import main
from pipeline.inference import predict as inference
from pipeline.inference.batch_predict import batch_predict
from pipeline.inference.names import expand, words
from pipeline.inference.predict import predict
from tests.components.ingestion import harmed_decoder
from tests.components.test_tflite_converter import convert
from tests.core.test_signing import write_keys
from tests.model_factory import image_bytes, save_model
from tests.small_model import flip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "1")


def save(path: Path, color: int, format: str = "JPEG") -> Path:  # noqa: A002 - PIL's name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image_bytes(color, format=format))
    return path


def test_a_record_per_image_in_the_order_given(model: Path, tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.jpg", color) for i, color in enumerate([2, 0, 1, 2, 0])]

    records = list(predict(model, paths, top_k=2, batch_size=2))

    assert [r["path"] for r in records] == [str(p) for p in paths]
    assert [r["class"] for r in records] == ["blue", "red", "green", "blue", "red"]
    for record in records:
        assert len(record["top_k"]) == 2
        assert record["top_k"][0] == {"class": record["class"], "probability": record["probability"]}
        assert 0.9 < record["probability"] <= 1
        assert record["top_k"][0]["probability"] >= record["top_k"][1]["probability"]
    json.dumps(records)


def test_where_the_model_withholds_the_label_the_record_says_why(tmp_path: Path) -> None:
    model = save_model(tmp_path / "1", least_probability=0.9, certainty=2.0)
    sure = tmp_path / "sure.png"
    Image.new("RGB", (24, 24), "red").save(sure)

    unsure, certain = predict(model, [save(tmp_path / "unsure.jpg", 1), sure], top_k=2)

    assert unsure["class"] == "" and unsure["reason"] == "the probability is too low"
    assert unsure["top_k"][0] == {"class": "green", "probability": unsure["probability"]}
    assert certain["class"] == "red" and "reason" not in certain
    assert 0 < certain["novelty"] < 1 and 0 < unsure["novelty"] < 1


def test_more_classes_than_there_are_lists_all(model: Path, tmp_path: Path) -> None:
    (record,) = predict(model, [save(tmp_path / "a.jpg", 1)], top_k=10)

    assert sorted(c["class"] for c in record["top_k"]) == ["blue", "green", "red"]
    assert sum(c["probability"] for c in record["top_k"]) == pytest.approx(1, abs=1e-5)


def test_a_model_whose_files_were_changed_answers_nothing(model: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(model, tmp_path / "1")
    classes = changed / "assets" / "classes.txt"
    classes.write_bytes(classes.read_bytes().replace(b"red", b"rad"))

    done = invoke("--model", str(changed), str(save(tmp_path / "a.jpg", 0)))

    assert done.exit_code == 2 and not done.stdout
    assert "its files are damaged: assets/classes.txt is damaged: its checksum is not the one in" in done.stderr


def test_a_tensorflow_lite_file_answers_as_its_model_does(model: Path, tmp_path: Path) -> None:
    (tmp_path / "artifact").mkdir()
    shutil.copytree(model, tmp_path / "artifact" / "Format-Serving")
    file = convert(tmp_path, tmp_path / "artifact") / "int8.tflite"
    images = [save(tmp_path / "a.jpg", 0), save(tmp_path / "b.webp", 2, "WEBP"), tmp_path / "absent.jpg"]

    done = invoke("--model", str(file), *map(str, images))

    first, second, third = map(json.loads, done.stdout.splitlines())
    assert (first["class"], second["class"]) == ("red", "blue") and third["error"]
    assert done.exit_code == 2 and "1 of 3 images could not be classified" in done.stderr
    written = batch_predict(str(file), str(tmp_path / "examples"), str(tmp_path / "out.jsonl"))
    assert written.records == 1

    flip(file.parent, file.name)
    assert invoke("--model", str(file), str(images[0])).exit_code == 2
    assert "there is no file" in invoke("--model", str(tmp_path / "x.tflite"), str(images[0])).stderr


def test_with_a_key_only_what_it_signed_answers(model: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    serving, image = tmp_path / "serving", str(save(tmp_path / "a.jpg", 0))
    origin = Origin({"data": {"images": "photos"}}, "c0de")
    signed = push(str(model), str(serving), CardSettings(), origin, key=private_key(private)).path
    shutil.copytree(model, serving / "9999999999")

    def ask(path: Path | str) -> Result:
        return invoke("--verify-key", str(public), "--model", str(path), image)

    done = ask(serving)
    assert done.exit_code == 0 and json.loads(done.stdout)["class"] == "red"
    assert "version 9999999999 is not used: provenance.intoto.jsonl: it is not there" in done.stderr
    assert ask(signed).exit_code == 0
    refused = ask(model)
    assert refused.exit_code == 2 and "is not used, since --verify-key is given" in refused.stderr
    (tmp_path / "int8.tflite").write_bytes(tflite_archive.with_archive(b"", ["red"], 24, ImageLimits()))
    assert "a file is verified in its version's folder" in ask(tmp_path / "int8.tflite").stderr
    flip(Path(signed), "saved_model.pb")
    checksums.write_checksums(signed)  # as who may write there could
    assert ask(signed).exit_code == 2
    assert invoke("--verify-key", str(private), image).exit_code == 2


def test_of_a_push_directory_the_newest_good_version_answers_and_the_others_are_named(
    model: Path, tmp_path: Path
) -> None:
    for number in ("1", "2"):
        shutil.copytree(model, tmp_path / "serving" / number)
    flip(tmp_path / "serving" / "2", "saved_model.pb")

    done = invoke("--model", str(tmp_path / "serving"), str(save(tmp_path / "a.jpg", 0)))

    assert done.exit_code == 0 and json.loads(done.stdout)["class"] == "red"
    assert "note: version 2 is not used: saved_model.pb is damaged" in done.stderr
    assert "taken instead: version 1" in done.stderr


def test_an_export_without_checksums_is_used_and_that_is_said(model: Path, tmp_path: Path) -> None:
    foreign = shutil.copytree(model, tmp_path / "foreign")
    (foreign / "assets.extra" / "SHA256SUMS").unlink()

    done = invoke("--model", str(foreign), str(save(tmp_path / "a.jpg", 0)))

    assert done.exit_code == 0 and json.loads(done.stdout)["class"] == "red"
    assert "foreign has no assets.extra/SHA256SUMS, so that nothing can verify its files" in done.stderr


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_every_format_of_the_ingestion_is_read(format: str, model: Path, tmp_path: Path) -> None:  # noqa: A002
    (record,) = predict(model, [save(tmp_path / "misnamed.dat", 1, format)])

    assert record["class"] == "green"


def test_what_cannot_be_read_gets_its_error_and_stops_nothing(model: Path, tmp_path: Path) -> None:
    good = save(tmp_path / "good.jpg", 0)
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes(image_bytes(0, format="PNG")[:300])
    text, empty, looped = tmp_path / "text.jpg", tmp_path / "empty.jpg", tmp_path / "looped.jpg"
    text.write_text("no image")
    empty.touch()
    looped.symlink_to(looped)
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)

    records = list(predict(model, [truncated, text, good, empty, tmp_path / "absent.jpg", looped, pipe], batch_size=4))

    assert "truncated or corrupt" in records[0]["error"]
    assert "not an image" in records[1]["error"]
    assert records[2]["class"] == "red"
    assert "empty" in records[3]["error"]
    assert "No such file" in records[4]["error"]
    assert "leads to itself" in records[5]["error"]
    assert "not a regular file" in records[6]["error"]
    assert all(set(r) == {"path", "error"} for i, r in enumerate(records) if i != 2)


def test_a_batch_of_nothing_but_broken_files(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()

    (record,) = predict(model, [tmp_path / "a.jpg"])

    assert "empty" in record["error"]


def test_an_image_on_its_side_is_seen_upright(model: Path, tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), (250, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)

    (record,) = predict(model, [tmp_path / "turned.jpg"])

    assert record["class"] == "red"


def test_the_limits_are_those_of_the_model(tmp_path: Path) -> None:
    model = save_model(tmp_path / "1")
    MODEL_LIMITS.write(model, ImageLimits(max_file_mb=0.01, max_megapixels=0.001))
    Image.new("RGB", (40, 26)).save(tmp_path / "large.webp")
    (tmp_path / "long.bmp").write_bytes(image_bytes(0, format="BMP") + bytes(20_000))

    records = list(
        predict(model, [tmp_path / "large.webp", tmp_path / "long.bmp", save(tmp_path / "a.tif", 0, "TIFF")])
    )

    assert [r.get("error") or r["class"] for r in records] == [
        "40 x 26 is more than 0.001 million pixels",
        "21,782 bytes are more than 0.01 MB",
        "red",
    ]


def test_folders_are_expanded(model: Path, tmp_path: Path) -> None:
    save(tmp_path / "photos/b/2.jpg", 1)
    save(tmp_path / "photos/a/1.jpg", 0)
    save(tmp_path / "photos/.cache/3.jpg", 2)
    (tmp_path / "photos/metadata.csv").write_text("file_name\n")
    for left in ("@eaDir/1.jpg/THUMB.jpg", "lost+found/2.jpg", "a/Thumbs.db", "a/1.json", "a/clip.mov", "README"):
        (tmp_path / "photos" / left).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / left).write_text("no image to classify")
    outside = save(tmp_path / "outside.jpg", 2)
    (tmp_path / "photos/link.jpg").symlink_to(outside)

    records = list(predict(model, [*expand([outside, tmp_path / "photos"])]))

    shown = [(Path(r["path"]).relative_to(tmp_path).as_posix(), r["class"]) for r in records]
    assert shown == [
        ("outside.jpg", "blue"),
        ("photos/a/1.jpg", "red"),
        ("photos/b/2.jpg", "green"),
        ("photos/link.jpg", "blue"),
    ]


def test_a_name_that_is_not_utf8_can_be_printed(model: Path, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    save(path, 1)

    (record,) = predict(model, [path])

    assert record["class"] == "green"
    assert json.dumps(record, ensure_ascii=False).encode("utf-8")


def test_a_push_directory_stands_for_its_latest_version(tmp_path: Path) -> None:
    save_model(tmp_path / "serving/9", classes=["a", "b", "c"])
    save_model(tmp_path / "serving/10", classes=["d", "e", "f"])

    (record,) = predict(tmp_path / "serving", [save(tmp_path / "x.jpg", 0)])

    assert record["class"] == "d"


def test_an_image_only_the_model_refuses_stops_no_other(tmp_path: Path) -> None:
    picky = save_model(tmp_path / "picky", faults=["refuses_wide_images"])
    wide, narrow = tmp_path / "wide.png", save(tmp_path / "narrow.jpg", 2)
    Image.new("RGB", (64, 8)).save(wide)

    refused, predicted = predict(picky, [wide, narrow])

    assert refused["error"] == "the model refuses it: the image is truncated or damaged"
    assert predicted["class"] == "blue"


def test_no_model_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no model in .*absent"):
        next(predict(tmp_path / "absent", []))


def test_a_damaged_model_is_said_in_words(tmp_path: Path) -> None:
    broken = save_model(tmp_path / "broken")
    (broken / "variables/variables.index").unlink()
    with pytest.raises(InputError, match=r"broken cannot be loaded, its files are damaged"):
        next(predict(broken, []))


def test_a_model_of_another_kind_is_said_in_words(tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", faults=["no_images_signature"])
    with pytest.raises(InputError, match="has no signature serving_images"):
        next(predict(other, []))


@pytest.mark.parametrize("argument", ["top_k", "batch_size"])
def test_counts_must_be_positive(argument: str, model: Path) -> None:
    with pytest.raises(InputError, match=f"{argument} is 0; it must be at least 1"):
        next(predict(model, [], **{argument: 0}))


def test_batches_are_bounded_by_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "BATCH_BYTES", 10)
    files = [inference.ImageFile(str(n), b"x" * size) for n, size in enumerate([4, 4, 4, 20, 1, 1, 1])]

    assert [[f.path for f in batch] for batch in inference.batches(files, 2)] == [
        ["0", "1"], ["2"], ["3"], ["4", "5"], ["6"],
    ]  # fmt: skip


def invoke(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["predict", *arguments], input=stdin)


def test_the_command_writes_a_file_at_once_and_says_by_its_exit_code_what_it_lacks(model: Path, tmp_path: Path) -> None:
    save(tmp_path / "photos/good.jpg", 0)
    (tmp_path / "photos/empty.jpg").touch()
    output = tmp_path / "out.csv"

    done = invoke("--model", str(model), "--format", "csv", "--output", str(output), "--top", "1", f"{tmp_path}/photos")

    assert done.exit_code == 2
    assert "1 of 2 images could not be classified" in done.output
    rows = output.read_text().splitlines()
    assert rows[0] == "path,class,probability,class_1,probability_1,novelty,reason,error"
    assert rows[1] == f"{tmp_path}/photos/empty.jpg,,,,,,,the file is empty"
    assert rows[2].startswith(f"{tmp_path}/photos/good.jpg,red,0.9")
    assert list(tmp_path.glob("*.partial")) == []


def test_a_picture_that_crashes_or_exhausts_its_decoder_costs_no_other_its_answer(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "for_model", harmed_decoder.for_model)
    for number in range(40):
        save(tmp_path / f"photos/{number:02}.jpg", number % 3)
    (tmp_path / "photos/03.jpg").write_bytes(b"SIGSEGV")
    (tmp_path / "photos/35.jpg").write_bytes(b"exhausts")

    done = invoke("--model", str(model), f"{tmp_path}/photos")

    assert done.exit_code == 2 and "2 of 40 images could not be classified" in done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [["red", "green", "blue"][number % 3] for number in range(40)]
    expected[3], expected[35] = "its decoder crashed (SIGSEGV)", "its decoder took too much memory"
    assert [record.get("class") or record["error"] for record in records] == expected


def test_the_command_takes_names_from_standard_input(model: Path, tmp_path: Path) -> None:
    names = [str(save(tmp_path / f"{n} a.jpg", n)) for n in range(3)]

    done = invoke("--model", str(model), "-", stdin="\n".join(names))

    assert done.exit_code == 0
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["path"], r["class"]) for r in records] == list(zip(names, ["red", "green", "blue"], strict=True))


def test_a_command_that_cannot_work_leaves_no_output(tmp_path: Path) -> None:
    done = invoke("--model", str(tmp_path), "--output", str(tmp_path / "out.jsonl"), "a.jpg")

    assert done.exit_code == 2 and "there is no model in" in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_names_costs_a_line_for_each_name_and_nothing_else(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "photos/a.jpg", 0)
    save(tmp_path / "photos/b c.jpg ", 1)  # it really ends in a blank
    save(tmp_path / "photos/d.jpg", 2)
    save(Path(os.fsdecode(b"photos/caf\xe9.jpg")), 1)
    (tmp_path / "photos/Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0 no picture")
    lines = [
        b"\xef\xbb\xbfphotos/a.jpg",
        b"",
        b"  ",
        b"photos/b c.jpg ",
        b" photos/d.jpg \r",
        b"photos/b c.jpg \r",
        b"photos/caf\xe9.jpg",
    ]
    lines += [b"photos/Thumbs.db", b"photos", b".", b"absent.jpg", b"x" * 5000, b""]

    done = invoke("--model", str(model), "-", stdin=b"\n".join(lines))

    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["path"][:20], r.get("class") or r["error"][:20]) for r in records] == [
        ("photos/a.jpg", "red"),
        ("photos/b c.jpg ", "green"),
        ("photos/d.jpg", "blue"),
        ("photos/b c.jpg ", "green"),
        ("photos/caf\\xe9.jpg", "green"),
        ("photos/Thumbs.db", "not an image, damage"),
        ("photos", "it is a folder"),
        (".", "it is a folder"),
        ("absent.jpg", "it cannot be opened:"),
        ("x" * 20, "it cannot be opened:"),
    ]
    assert done.exit_code == 2 and "5 of 10 images could not be classified" in done.stderr


@pytest.mark.parametrize(
    "encoded",
    [b"a.jpg\0b\nc.jpg\0", "a.jpg\r\n".encode("utf-16")],
    ids=["find -print0", "PowerShell"],
)
def test_lists_as_other_tools_write_them(
    encoded: bytes, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["a.jpg", "b\nc.jpg"][: 1 + (b"\n" in encoded and b"\r" not in encoded)]
    for name in names:
        save(tmp_path / name, 0)

    done = invoke("--model", str(model), "-", stdin=encoded)

    assert done.exit_code == 0
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == names


def test_no_name_is_never_the_current_folder(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.jpg", 0)
    nothing = invoke("--model", str(model), "-", stdin="\n\n")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    empty = invoke("--model", str(model), "")
    assert empty.exit_code == 2 and [json.loads(line)["path"] for line in empty.stdout.splitlines()] == [""]
    for given in ([], ["--images", ""]):
        none = invoke("--model", str(model), *given)
        assert none.exit_code == 2 and "give files or folders" in none.stderr


def test_what_a_folder_holds_and_cannot_be_entered_is_not_lost(model: Path, tmp_path: Path) -> None:
    save(tmp_path / "photos/a.jpg", 0)
    (tmp_path / "more").mkdir()
    (tmp_path / "photos/link").symlink_to(tmp_path / "more")

    assert list(expand([tmp_path / "photos"])) == [f"{tmp_path}/photos/a.jpg", f"{tmp_path}/photos/link"]


def test_one_text_of_names_is_split_as_a_shell_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("my photo.jpg", "it's.jpg", "a.jpg", "b.jpg", "[1].jpg", "$(x) `y`.jpg"):
        (tmp_path / name).touch()
    assert words("a.jpg b.jpg") == ["a.jpg", "b.jpg"]
    for name in ("my photo.jpg", "it's.jpg", "[1].jpg", "$(x) `y`.jpg"):
        assert words(name) == [name]
    assert words("""'my photo.jpg' "it's.jpg" [1].jpg""") == ["my photo.jpg", "it's.jpg", "[1].jpg"]
    assert words("[ab].jpg absent*.jpg") == ["a.jpg", "b.jpg", "absent*.jpg"]
    assert words(" ") == []
    with pytest.raises(InputError, match="in which a quote is not closed"):
        words("a.jpg it's.jpg")
