import hashlib
import json
import logging
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to
from PIL import Image
from tfx.components.util import tfxio_utils
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.proto.orchestration import pipeline_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.experimental import simple_artifacts
from tfx.utils import proto_utils

from components import image_example_gen
from components.image_example_gen import ImageExampleGen
from components.ingestion import image_folder as image_folder_module
from components.ingestion import image_ingestion
from components.ingestion.earlier_reads import EarlierReads, Place
from components.ingestion.layouts.listing import Listing
from components.validation import ingest_problems
from core import progress
from core.artifacts import ingest_record
from core.artifacts.ingest_record import DuplicateGroup, IngestCounts, Oddity, Reject
from core.errors import InputError, cause_of
from core.image_limits import ImageLimits
from core.settings.data import DataBounds, DataSettings, NearDuplicates
from tests.components.conftest import detailed, encoded, picture
from tests.components.ingestion import test_image_records as records
from tests.conftest import ROOT

SPLITS = {"train": 8, "eval": 1, "test": 1}
Folders = Callable[..., Path]


class Ingested(NamedTuple):
    examples: dict[str, list[dict[str, Any]]]
    artifact: standard_artifacts.Examples
    rejects: list[Reject]
    counts: IngestCounts
    duplicates: list[DuplicateGroup]
    ignored: list[Reject]

    def all(self) -> list[dict[str, Any]]:
        return [example for split in self.examples.values() for example in split]

    def split_of(self) -> dict[str, str]:
        """The split each hash is in; fails if it is in two."""
        splits: dict[str, str] = {}
        for split, examples in self.examples.items():
            for example in examples:
                assert splits.setdefault(example["image/sha256"].decode(), split) == split
        return splits


def plain(example: bytes) -> dict[str, Any]:
    features = tf.train.Example.FromString(example).features.feature
    values = {name: getattr(value, value.WhichOneof("kind")).value for name, value in features.items()}
    assert all(len(value) == 1 for value in values.values())
    return {name: value[0] for name, value in values.items()}


def generator(folder: Path | str, boundaries: dict[str, list[float]] | None = None, **options: Any) -> ImageExampleGen:
    """The component, as the pipeline makes it of the settings `data`; near-duplicates are not looked for."""
    data = DataSettings(**{"images": str(folder), "near_duplicates": None, **options})
    span = None if data.span == "latest" else data.span
    return ImageExampleGen(str(folder), data.ingestion(boundaries or {}), "code", span)


@pytest.fixture
def execute(tmp_path: Path) -> Callable[..., tuple[standard_artifacts.Examples, simple_artifacts.File]]:
    """Runs the component's driver and executor on a folder, on Beam's DirectRunner."""

    def run(
        folder: Path | str, boundaries: dict[str, list[float]] | None = None, cache: bool = False, **options: Any
    ) -> tuple[standard_artifacts.Examples, simple_artifacts.File]:
        component = generator(folder, boundaries, **options)
        properties = {
            name: value if isinstance(value, str | int) else proto_utils.proto_to_json(value)
            for name, value in component.exec_properties.items()
            if value is not None
        }
        properties = component.driver_class(None).resolve_exec_properties(properties, None, None)
        number = time.monotonic_ns()
        examples, rejects = standard_artifacts.Examples(), simple_artifacts.File()
        examples.uri, rejects.uri = (str(tmp_path / "artifacts" / f"{out}/{number}") for out in ("examples", "rejects"))
        Path(rejects.uri).mkdir(parents=True)
        node = pipeline_pb2.PipelineNode()
        node.execution_options.caching_options.enable_cache = cache
        executor = image_example_gen.Executor(image_example_gen.Executor.Context(pipeline_node=node))
        executor.Do({}, {"examples": [examples], "rejects": [rejects]}, properties)
        return examples, rejects

    return run


@pytest.fixture
def ingest(
    execute: Callable[..., tuple[standard_artifacts.Examples, simple_artifacts.File]],
) -> Callable[..., Ingested]:
    """Runs the component and reads what it wrote."""

    def run(*arguments: Any, **options: Any) -> Ingested:
        examples, rejects = execute(*arguments, **options)
        read = {}
        for split in artifact_utils.decode_split_names(examples.split_names):
            files = sorted(tf.io.gfile.glob(f"{artifact_utils.get_split_uri([examples], split)}/*"))
            read[split] = [plain(record) for record in tf.data.TFRecordDataset(files).as_numpy_iterator()]
        assert not list(Path(examples.uri).glob(".*")), "the scratch folder is removed"
        uri = rejects.uri
        return Ingested(
            read,
            examples,
            list(ingest_record.REJECTS.read(uri)),
            ingest_record.COUNTS.read(uri),
            list(ingest_record.DUPLICATES.read(uri)),
            list(ingest_record.IGNORED.read(uri)),
        )

    return run


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gets the paths of the files that are read."""
    read: list[str] = []

    def read_file(folder: str, path: str, limits: ImageLimits) -> bytes:
        read.append(path)
        return image_folder_module.read_file(folder, path, limits)

    monkeypatch.setattr(image_ingestion, "read_file", read_file)
    return read


def growing(folder: Path) -> Callable[[], list[str]]:
    """Fills a folder; gives what changes it in every way, and returns what is to be read then."""
    (folder / "cat" / "cut.jpg").write_bytes(encoded(picture(78), "JPEG")[:-60])
    (folder / "cat" / "no_end.jpg").write_bytes(encoded(detailed(79), "JPEG")[:-2])
    (folder / "dog" / "same.png").write_bytes((folder / "dog" / "0000.png").read_bytes())
    (folder / "metadata.csv").write_text("file_name,camera\ncat/0000.png,a\ncat/0001.png,a\n")

    def change() -> list[str]:
        (folder / "dog" / "new.png").write_bytes(encoded(picture(90)))
        (folder / "dog" / "near.jpg").write_bytes(encoded(detailed(79), "JPEG", quality=90))
        (folder / "cat" / "0002.png").write_bytes(encoded(picture(91)))
        (folder / "cat" / "0003.png").rename(folder / "dog" / "moved.png")
        (folder / "dog" / "0001.png").unlink()
        (folder / "metadata.csv").write_text("file_name,camera\ncat/0000.png,a\ncat/0001.png,b\n")
        edited = folder / "cat" / "0004.png"
        before = edited.stat()
        edited.write_bytes(edited.read_bytes()[:-1] + b"\0")
        os.utime(edited, ns=(before.st_atime_ns, before.st_mtime_ns))
        of_cats, of_dogs = ("0001.png", "0002.png", "0004.png", "cut.jpg"), ("moved.png", "near.jpg", "new.png")
        return [*(f"cat/{name}" for name in of_cats), *(f"dog/{name}" for name in of_dogs)]

    return change


def comparable(ingested: Ingested) -> tuple[Any, ...]:
    """All that a run leaves, but for the order of the examples and where they lie."""
    examples = {split: sorted(found, key=lambda one: one["image/path"]) for split, found in ingested.examples.items()}
    content = ingested.artifact.get_string_custom_property(ingest_record.CONTENT_SHA256)
    return (examples, content, ingested.rejects, ingested.counts, ingested.duplicates, ingested.ignored)


def test_images_are_in_the_order_of_their_paths_hashes_however_many_files_hold_them(
    image_folder: Callable[..., Path], ingest: Callable[..., Ingested], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a training sees depends neither on the engine nor on its workers: none of them changes a file's inside."""
    folder = image_folder(cat=30, dog=20)
    whole = ingest(folder)
    monkeypatch.setattr(image_ingestion, "_CHUNK", 7)
    parts = ingest(folder)
    assert len(list(Path(parts.artifact.uri, "Split-train").iterdir())) == 8
    assert parts.examples == whole.examples
    for examples in whole.examples.values():
        hashes = [hashlib.sha256(example["image/path"]).digest() for example in examples]
        assert len(hashes) > 2 and hashes == sorted(hashes)


def test_what_has_not_changed_is_copied_from_an_earlier_run_and_all_is_as_if_read_anew(
    image_folder: Folders, ingest: Callable[..., Ingested], decoded: list[str]
) -> None:
    folder = image_folder(cat=12, dog=8)
    change = growing(folder)
    options = {"near_duplicates": NearDuplicates()}
    ingest(folder, cache=True, **options)
    changed = change()
    decoded.clear()

    again = ingest(folder, cache=True, **options)

    assert sorted(decoded) == changed
    decoded.clear()
    assert comparable(again) == comparable(ingest(folder, **options))
    assert len(decoded) == 24, "with runtime.cache: false all files are read"
    decoded.clear()
    ingest(folder, cache=True, **options)
    assert decoded == ["cat/cut.jpg"], "what was copied can be copied on"
    decoded.clear()
    ingest(folder, cache=True, **options, splits={"train": 6, "eval": 2, "test": 2})
    assert len(decoded) == 24, "with other settings"


@pytest.mark.parametrize("damage", ["flipped", "cut", "removed meanwhile"])
def test_an_earlier_run_that_is_damaged_or_removed_is_not_copied_from(
    damage: str, image_folder: Folders, ingest: Callable[..., Ingested], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = image_folder(cat=6, dog=6)
    first = ingest(folder, cache=True)
    (shard,) = Path(first.artifact.uri).glob("Split-train/*")
    content = shard.read_bytes()
    if damage == "removed meanwhile":
        places = EarlierReads.places

        def then_removed(earlier: EarlierReads, listing: Listing) -> dict[str, Place]:
            found = places(earlier, listing)
            shutil.rmtree(first.artifact.uri, ignore_errors=True)
            return found

        monkeypatch.setattr(EarlierReads, "places", then_removed)
    elif damage == "cut":
        shard.write_bytes(content[: len(content) // 2])
    else:
        shard.write_bytes(content[:2000] + bytes([content[2000] ^ 1]) + content[2001:])

    assert comparable(ingest(folder, cache=True)) == comparable(first)


def test_every_file_is_an_example_or_a_reject_and_the_counts_add_up(
    image_folder: Folders, ingest: Callable[..., Ingested], tmp_path: Path
) -> None:
    folder = image_folder(cat=30, dog=20)
    (folder / "dog" / "UPPER.JPG").write_bytes(encoded(picture(77), "WEBP", lossless=True))
    (folder / "cat" / "cut.jpg").write_bytes(encoded(picture(78), "JPEG")[:-60])
    (folder / "cat" / "notes.txt").write_text("no image")
    (folder / "cat" / "page").write_text("<html>")
    (folder / "cat" / "web.jpg").write_text("<html>")
    (folder / "cat" / "empty.png").touch()
    (folder / "cat" / "large.png").write_bytes(encoded(Image.new("1", (9000, 9000))))
    with (folder / "cat" / "huge.bmp").open("wb") as file:
        file.truncate(65 * 2**20)
    (folder / "cat" / "broken.png").symlink_to("nowhere.png")
    (tmp_path / "secret.png").touch()
    (folder / "cat" / "out.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(folder / "cat" / "pipe.png")
    Path(os.fsdecode(os.fsencode(folder) + b"/cat/\xff.png")).touch()
    (folder / "README").write_text("no image")
    (folder / ".DS_Store").touch()
    (folder / "dog" / "Thumbs.db").touch()
    (folder / "metadata.csv").touch()
    done = ingest(folder)

    assert Counter(example["image/path"].decode() for example in done.all()) == Counter(
        {str(path.relative_to(folder)): 1 for path in [*folder.glob("*/0*.png"), folder / "dog" / "UPPER.JPG"]}
    )
    assert [(reject.path, reject.stage) for reject in done.rejects] == [
        ("cat/\\xff.png", "find"),
        ("cat/broken.png", "open"),
        ("cat/cut.jpg", "decode"),
        ("cat/empty.png", "open"),
        ("cat/huge.bmp", "limits"),
        ("cat/large.png", "limits"),
        ("cat/out.png", "find"),
        ("cat/pipe.png", "open"),
        ("cat/web.jpg", "identify"),
    ]
    sizes = {split: len(examples) for split, examples in done.examples.items()}
    counts, classes = done.counts, done.counts.classes
    assert (counts.found, counts.ignored, counts.rejected, counts.read) == (66, 6, 9, 51)
    assert [(one.path, one.reason) for one in done.ignored] == [
        (".DS_Store", "hidden"),
        ("README", "no picture: a read-me or license file"),
        ("cat/notes.txt", "no picture: .txt"),
        ("cat/page", "no picture: a web page (HTML)"),
        ("dog/Thumbs.db", "left behind by a system"),
        ("metadata.csv", "describes the data"),
    ]
    assert sum(counts.ignored_by.values()) == 6
    assert (counts.splits, counts.duplicates, counts.layout, counts.given) == (sizes, 0, "class_folders", [])
    on_disk = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    assert counts.found == len(on_disk)
    assert counts.found == counts.ignored + counts.rejected + sum(sizes.values())
    assert {name: sum(of.splits.values()) + of.rejected for name, of in classes.items()} == {"cat": 39, "dog": 21}
    assert classes["cat"].rejected == 9
    assert {split: done.artifact.get_int_custom_property(f"examples_{split}") for split in SPLITS} == sizes


def test_what_phones_sensors_and_icons_leave_is_read_and_the_odd_noted(
    image_folder: Folders, ingest: Callable[..., Ingested]
) -> None:
    folder = image_folder(cat=10, dog=10)
    heics = ROOT / "tests/components/ingestion/formats/heic"
    shutil.copy(heics / "rgb.heic", folder / "cat" / "IMG_1.HEIC")
    shutil.copy(heics / "alpha.heic", folder / "cat" / "IMG_2.jpg")
    (folder / "cat" / "0.ppm").write_bytes(encoded(picture(80), "PPM"))
    (folder / "cat" / "no end.jpg").write_bytes(encoded(picture(81), "JPEG")[:-2])
    sensor = np.linspace(0, 4095, 1024).astype(np.uint16).reshape(32, 32)
    (folder / "dog" / "sensor.png").write_bytes(encoded(Image.fromarray(sensor)))
    clear = picture(82).convert("RGBA")
    clear.putalpha(0)
    (folder / "dog" / "clear.png").write_bytes(encoded(clear))
    (folder / "dog" / "cut.heic").write_bytes((heics / "rgb.heic").read_bytes()[:100])
    (folder / "dog" / "pointer.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n")
    (folder / "dog" / "raw.nef").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(100))

    found = ingest(folder)

    assert {reject.path: (reject.stage, reject.reason) for reject in found.rejects} == {
        "dog/cut.heic": ("identify", "a HEIC that is damaged or cut off: a box is longer than what holds it"),
        "dog/pointer.jpg": ("identify", "a Git LFS pointer: run git lfs pull"),
        "dog/raw.nef": (
            "identify",
            "a raw photo (Canon CR2): export it as JPEG or TIFF with the camera's software or a raw converter",
        ),
    }
    assert found.counts.oddities == {
        "no_end": Oddity(1, 1, ["cat/no end.jpg"]),
        "few_bits": Oddity(1, 12, ["dog/sensor.png"]),
        "invisible": Oddity(1, 1, ["dog/clear.png"]),
    }
    notes = list(ingest_problems.notes(found.duplicates, found.counts))
    assert any("1 image of 16 bits uses at most 12" in note and "data.stretch=12" in note for note in notes)
    assert any("1 JPEG lacks its end marker" in note and "cat/no end.jpg" in note for note in notes)
    assert any("1 image is wholly transparent" in note for note in notes)
    assert ingest(folder, stretch=12).counts.oddities.keys() == {"no_end", "invisible"}
    assert ingest(folder, transparent="drop").counts.oddities.keys() == {"no_end", "few_bits"}


def test_an_example_has_the_features_of_the_schema(image_folder: Folders, ingest: Callable[..., Ingested]) -> None:
    folder = image_folder(cat=2, dog=2)
    data = encoded(picture(5, 400, 300), "WEBP", lossless=True)
    (folder / "dog" / "übung.webp").write_bytes(data)
    boundaries = {"brightness": [0.1, 0.9], "resolution": [0.2]}
    (example,) = (
        e for e in ingest(folder, boundaries).all() if e["image/format"] == b"png" and e["image/width"] == 400
    )
    pixels = tf.io.decode_image(example.pop("image/encoded")).numpy()
    np.testing.assert_array_equal(pixels, np.asarray(picture(5, 400, 300)))
    assert len(example.pop("image/sha256")) == 64
    for name in ("contrast", "sharpness", "colorfulness"):
        assert example.pop(f"image/{name}") > 0 and example.pop(f"slice/{name}") == b"all"
    assert 0.1 <= example.pop("image/brightness") < 0.9
    assert example == {
        "image/format": b"png",
        "image/width": 400,
        "image/height": 300,
        "image/path": "dog/übung.webp".encode(),
        "label": b"dog",
        "image/resolution": pytest.approx(0.12),
        "slice/resolution": b"small (<0.2)",
        "slice/aspect": b"landscape",
        "slice/brightness": b"medium (0.1 to 0.9)",
        "slice/format": b"webp",
    }


def test_a_picture_stays_in_its_split_as_the_data_grows(image_folder: Folders, ingest: Callable[..., Ingested]) -> None:
    folder = image_folder(cat=60, dog=40)
    (folder / "cat" / "copy.png").write_bytes((folder / "cat" / "0000.png").read_bytes())
    before = ingest(folder).split_of()
    after = ingest(image_folder(cat=90, dog=80)).split_of()
    assert after.items() >= before.items()
    assert len(after) == len(before) + 70 == 170
    sizes = Counter(after.values())
    assert sizes["train"] > 0.65 * len(after) and min(sizes["eval"], sizes["test"]) > 0.02 * len(after)


def test_the_same_data_give_the_same_records_with_the_classes_mixed(
    image_folder: Folders, ingest: Callable[..., Ingested]
) -> None:
    folder = image_folder(cat=30, dog=30)
    first = ingest(folder)
    assert first.examples == ingest(folder).examples
    labels = [example["label"] for example in first.examples["train"]]
    assert len(set(labels[: len(labels) // 3])) == 2


def test_a_copy_of_the_data_has_the_same_hash(
    image_folder: Folders, ingest: Callable[..., Ingested], tmp_path: Path
) -> None:
    folder = image_folder(cat=5, dog=5)
    copy = shutil.copytree(folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)  # other times of change
    first, second = (
        ingest(place).artifact.get_string_custom_property(ingest_record.CONTENT_SHA256) for place in (folder, copy)
    )
    assert first == second and len(first) == 64
    (copy / "cat" / "0000.png").rename(copy / "dog" / "moved.png")
    assert ingest(copy).artifact.get_string_custom_property(ingest_record.CONTENT_SHA256) != first


def test_a_folder_without_one_usable_image_leaves_its_record(tmp_path: Path, ingest: Callable[..., Ingested]) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        (tmp_path / "images" / label / "a.jpg").touch()
    done = ingest(tmp_path / "images")
    assert [reject.reason for reject in done.rejects] == ["the file is empty"] * 2
    assert (done.all(), done.counts.read, done.counts.rejected) == ([], 0, 2)


def test_identical_and_near_identical_pictures_share_a_split_and_are_listed(
    image_folder: Folders, ingest: Callable[..., Ingested]
) -> None:
    folder = image_folder(cat=40, dog=40)
    for i in range(40):
        original = detailed(i)
        original.save(folder / "cat" / f"{i:04d}.png")
        original.save(folder / "cat" / f"{i:04d}-again.bmp")  # the same pixels in other bytes
        original.resize((60, 40), Image.Resampling.BICUBIC).save(folder / "cat" / f"{i:04d}-small.jpg", quality=70)
    done = ingest(folder, near_duplicates=NearDuplicates(6))
    split_of = {e["image/path"].decode(): split for split, of in done.examples.items() for e in of}
    for i in range(40):
        stem = f"cat/{i:04d}"
        assert split_of[f"{stem}.png"] == split_of[f"{stem}-again.bmp"] == split_of[f"{stem}-small.jpg"]
    identical = [group for group in done.duplicates if group.kind == "identical"]
    assert [group.paths for group in identical] == [[f"cat/{i:04d}-again.bmp", f"cat/{i:04d}.png"] for i in range(40)]
    assert sum(len(group.paths) for group in done.duplicates if group.kind == "near") == 120
    assert done.counts.duplicates == 80

    exact = ingest(folder)
    assert {group.kind for group in exact.duplicates} == {"identical"}
    split_of = {e["image/path"].decode(): split for split, of in exact.examples.items() for e in of}
    assert any(split_of[f"cat/{i:04d}.png"] != split_of[f"cat/{i:04d}-small.jpg"] for i in range(40))


def test_given_splits_are_kept_and_a_missing_one_is_made_from_train(
    image_folder: Folders, ingest: Callable[..., Ingested]
) -> None:
    for split, number in (("train", 40), ("val", 5)):
        image_folder(f"images/{split}", cat=number, dog=number)
    folder = image_folder("images/val", cat=5, dog=5).parent
    for i, path in enumerate(sorted(folder.glob("val/*/*"))):
        path.write_bytes(encoded(picture(5000 + i)))
    done = ingest(folder)
    assert {e["image/path"].decode().split("/")[0] for e in done.examples["eval"]} == {"val"}
    assert len(done.examples["eval"]) == 10
    made = {e["image/path"].decode().split("/")[0] for split in ("train", "test") for e in done.examples[split]}
    assert made == {"train"} and len(done.examples["train"]) + len(done.examples["test"]) == 80
    assert 1 <= len(done.examples["test"]) <= 25
    assert (done.counts.layout, done.counts.given) == ("split_folders", ["train", "eval"])


def test_metadata_columns_are_slices(image_folder: Folders, ingest: Callable[..., Ingested]) -> None:
    folder = image_folder(cat=2, dog=2)
    (folder / "metadata.csv").write_text("file_name,camera\ncat/0000.png,phone\ndog/0001.png,scanner\n")
    cameras = {e["image/path"].decode(): e["slice/camera"] for e in ingest(folder, metadata="metadata.csv").all()}
    assert cameras == {
        "cat/0000.png": b"phone",
        "cat/0001.png": b"",
        "dog/0000.png": b"",
        "dog/0001.png": b"scanner",
    }


def test_a_group_shares_a_split(image_folder: Folders, ingest: Callable[..., Ingested]) -> None:
    folder = image_folder(cat=40, dog=40)
    rows = [f"{path.relative_to(folder)},{int(path.stem) % 4}" for path in folder.glob("*/*.png")]
    (folder / "metadata.csv").write_text("\n".join(["file_name,patient", *rows]))
    done = ingest(folder, metadata="metadata.csv", group_by="patient")
    splits = {(example["slice/patient"], split) for split, of in done.examples.items() for example in of}
    assert len(splits) == 4
    with pytest.raises(InputError, match=r"data\.group_by is 'doctor'; the columns of data\.metadata are: patient"):
        ingest(folder, metadata="metadata.csv", group_by="doctor")


@pytest.mark.parametrize("layout", ["a table a split", "a column", "paths", "splits within classes"])
def test_given_splits_are_kept_in_any_layout(layout: str, tmp_path: Path, ingest: Callable[..., Ingested]) -> None:
    folder, tables = (
        tmp_path / "images",
        defaultdict(lambda: ["Filename;Class;Subset" if "column" in layout else "Filename;Class"]),
    )
    wanted = {"train": 12, "eval": 4, "test": 4}
    for place, (split, number) in enumerate(wanted.items()):
        for i in range(number):
            label, name = ("owl", "wren")[i % 2], ("train", "Val", "test")[place]
            path = {
                "a column": f"img/{split}{i}.png",
                "splits within classes": f"{label}/{name}/{i}.png",
            }.get(layout, f"{name}/{i}.png")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(encoded(picture(1000 * place + i)))
            row = f"C:\\birds\\{path};{label}".replace("/", "\\")
            if "table" in layout:
                tables[f"{name}/metadata.csv"].append(f"{i};{label}")
            elif "classes" not in layout:
                tables["birds.csv"].append(row + f";{name.upper()}" * ("column" in layout))
    for name, lines in tables.items():
        (folder / name).write_text("\r\n".join(lines), encoding="utf-16")

    done = ingest(folder)

    assert done.counts.splits == wanted
    assert (done.counts.given, done.rejects) == (list(wanted), [])
    for split, examples in done.examples.items():
        said = {e["image/path"].decode(): e["label"].decode() for e in examples}
        assert all(split in path or (split == "eval" and "Val" in path) for path in said)
        assert Counter(said.values()) == {"owl": wanted[split] // 2, "wren": wanted[split] // 2}
    assert done.counts.remarks


def test_rows_without_a_file_and_files_of_two_labels_are_rejects(
    image_folder: Folders, ingest: Callable[..., Ingested]
) -> None:
    folder = image_folder(all=5)
    rows = ["0000,owl", "0001,wren", "0002,owl", "0002,wren", "0003,owl", "9999,owl"]
    (folder / "labels.csv").write_text("id,species\n" + "\n".join(rows))
    done = ingest(folder)
    assert [(reject.path, reject.reason) for reject in done.rejects] == [
        ("9999", "labels.csv, line 7: there is no such file"),
        ("all/0002.png", "labels.csv, line 4 says 'owl' and labels.csv, line 5 'wren'"),
        ("all/0004.png", "labels.csv has no row for it"),
    ]
    assert (done.counts.read, done.counts.rejected) == (3, 3)


def test_tfrecords_as_slim_writes_them_are_ingested(tmp_path: Path, ingest: Callable[..., Ingested]) -> None:
    folder = tmp_path / "slim"
    folder.mkdir()
    for split, number in (("train", 12), ("validation", 4)):
        with tf.io.TFRecordWriter(str(folder / f"birds_{split}_00000-of-00001.tfrecord")) as writer:
            for i in range(number):
                seed = i if split == "train" else 1000 + i
                values = {"image/encoded": encoded(picture(seed)), "image/class/label": i % 2, "image/format": b"png"}
                writer.write(records.example(**values))
    (folder / "labels.txt").write_bytes(b"\xef\xbb\xbf0:owl\r\n1:wren\r\n\r\n")
    done = ingest(folder)
    assert done.counts.classes.keys() == {"owl", "wren"}
    assert (done.counts.splits["eval"], done.counts.given) == (4, ["train", "eval"])
    (folder / "labels.txt").write_text("owl\n")
    with pytest.raises(Exception) as error:
        ingest(folder)
    cause = cause_of(error.value)
    assert cause.blame == "input" and "number 1; the names are of 0 to 0, and may be one off" in cause.message


def test_the_spans_of_the_window_are_read_into_the_same_splits(
    image_folder: Folders, ingest: Callable[..., Ingested]
) -> None:
    base = image_folder("span-7", cat=2, dog=1).parent
    image_folder("span-9", cat=4, dog=4)
    image_folder("span-12", cat=1, dog=1)
    images = f"{base}/span-{{SPAN}}"
    latest = ingest(images)
    assert sorted(example["image/path"] for example in latest.all()) == [
        b"span-12/cat/0000.png",
        b"span-12/dog/0000.png",
    ]
    assert json.loads(latest.artifact.get_string_custom_property("spans")) == [
        {"span": 12, "version": None, "folder": "span-12"}
    ]
    window = ingest(images, span=9, window=2)
    assert window.counts.read == 11
    assert [s["span"] for s in json.loads(window.artifact.get_string_custom_property("spans"))] == [7, 9]
    window.split_of()  # a picture that came again is in the split it was in
    with pytest.raises(InputError, match=r"no folder in .* fits day"):
        ingest(f"{base}/day-{{SPAN}}")


def test_tfx_components_read_the_records(image_folder: Folders, ingest: Callable[..., Ingested]) -> None:
    done = ingest(image_folder(cat=20, dog=10))
    source = tfxio_utils.get_split_tfxio([done.artifact], "train", telemetry_descriptors=["test"])
    with test_pipeline.TestPipeline() as pipeline:
        labels = (
            pipeline
            | source.BeamSource()
            | beam.FlatMap(lambda batch: [value[0] for value in batch.column("label").to_pylist()])
        )
        assert_that(labels, equal_to([example["label"] for example in done.examples["train"]]))


def test_says_how_far_it_is(
    image_folder: Folders, ingest: Callable[..., Ingested], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, progress.LOGGER_NAME):
        ingest(image_folder(cat=3, dog=2))
    said = [record.progress for record in caplog.records if record.name == progress.LOGGER_NAME]
    assert said[-1] == {"done": 5, "total": 5, "unit": "images", "note": ""}


def test_memory_does_not_grow_with_the_data(
    tmp_path: Path, execute: Callable[..., tuple[standard_artifacts.Examples, simple_artifacts.File]]
) -> None:
    noise = np.random.RandomState(0)
    megabytes = 0.0
    for i in range(120):  # 3 MB each, which neither PNG nor gzip could make smaller
        path = tmp_path / "images" / "ab"[i % 2] / f"{i}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.randint(0, 256, (1000, 1000, 3), dtype=np.uint8)).save(path)
        megabytes += path.stat().st_size / 2**20

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    before = most = resident()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(execute, tmp_path / "images")
        while not done.done():
            most = max(most, resident())
            time.sleep(0.005)
    _, rejects = done.result()
    assert ingest_record.COUNTS.read(rejects.uri).read == 120
    assert megabytes > 300
    # Measured on two cores: 60 and 180 of them need the same 75 MB. With a shuffle of the images: all of them and more.
    assert most - before < megabytes / 2


def test_limits_are_those_of_the_settings(image_folder: Folders, ingest: Callable[..., Ingested]) -> None:
    folder = image_folder(cat=30, dog=20)
    (folder / "dog" / "large.png").write_bytes(encoded(picture(77, 60, 40)))
    (folder / "cat" / "long.bmp").write_bytes(encoded(picture(78), "BMP") + bytes(20_000))

    found = ingest(folder, max_file_mb=0.01, max_megapixels=0.002)

    assert found.rejects == [
        Reject("cat/long.bmp", "cat", "limits", "21,206 bytes are more than 0.01 MB"),
        Reject("dog/large.png", "dog", "limits", "60 x 40 is more than 0.002 million pixels"),
    ]
    assert found.counts.found == 52 and found.counts.read == 50


def test_is_cached_until_an_image_moves_to_another_class_or_a_span_arrives_or_a_limit_changes(
    image_folder: Folders, tmp_path: Path
) -> None:
    folder = image_folder("day-1", cat=3, dog=2)

    def run(**options: Any) -> int:
        """Runs the pipeline as users do; returns how many results there are by now."""
        component = generator(f"{tmp_path}/day-{{SPAN}}", window=2, **options)
        metadata = sqlite_metadata_connection_config(str(tmp_path / "metadata.db"))
        LocalDagRunner().run(
            Pipeline(
                pipeline_name="p",
                pipeline_root=str(tmp_path / "root"),
                components=[component],
                enable_cache=True,
                metadata_connection_config=metadata,
            )
        )
        return len(list((tmp_path / "root" / "ImageExampleGen" / "rejects").iterdir()))

    assert [run(), run()] == [1, 1]
    (folder / "cat" / "0002.png").rename(folder / "dog" / "0002.png")
    assert run() == 2
    image_folder("day-2", cat=1, dog=1)
    assert [run(), run()] == [3, 3]
    counts = [ingest_record.COUNTS.read(folder) for folder in tmp_path.glob("root/*/rejects/*")]
    assert sorted(sum(count.classes["dog"].splits.values()) for count in counts) == [2, 3, 4]
    assert run(bounds=DataBounds(leaked=1), max_rejected=1) == 3, "only what decides the examples makes them anew"
    assert run(max_megapixels=1) == 4


def test_a_store_that_links_lead_to_is_read_where_the_settings_say_so(
    image_folder: Folders, ingest: Callable[..., Ingested], tmp_path: Path
) -> None:
    folder = image_folder("photos [v2]", cat=6, dog=6)
    (tmp_path / "store").mkdir()
    for number, path in enumerate(sorted(folder.glob("*/*.png"))):
        path.rename(tmp_path / "store" / str(number))
        path.symlink_to(tmp_path / "store" / str(number))
    (folder / "old").mkdir()
    (folder / "old" / "1.png").touch()
    with pytest.raises(InputError, match=r"data\.links to follow"):
        ingest(folder, ignore=("/old/",))
    done = ingest(folder, links="follow", ignore=("/old/",))
    assert (done.counts.read, done.counts.rejected, done.counts.ignored) == (12, 0, 1)
    assert done.counts.linked_to == [f"{tmp_path}/store"]
    assert done.counts.ignored_by == {"data.ignore: /old/": 1}
    assert [(one.path, one.reason) for one in done.ignored] == [("old/", "data.ignore: /old/")]
