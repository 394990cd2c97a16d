import json
import logging
import time
from collections import Counter
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
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.experimental import simple_artifacts
from tfx.utils import proto_utils

from components import image_example_gen
from components.image_example_gen import ImageExampleGen
from components.image_ingestion import read_counts, read_rejects
from tests.components.conftest import encoded, picture
from trainer import progress
from trainer.errors import InputError

SPLITS = {"train": 8, "eval": 1, "test": 1}
Folders = Callable[..., Path]


class Ingested(NamedTuple):
    examples: dict[str, list[dict[str, Any]]]
    artifact: standard_artifacts.Examples
    rejects: list[dict[str, str]]
    counts: dict[str, Any]

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


@pytest.fixture
def execute(tmp_path: Path) -> Callable[..., tuple[standard_artifacts.Examples, simple_artifacts.File]]:
    """Runs the component's driver and executor on a folder, on Beam's DirectRunner."""

    def run(
        folder: Path | str, max_rejected: float = 0.0, metadata: str | None = None, **options: Any
    ) -> tuple[standard_artifacts.Examples, simple_artifacts.File]:
        component = ImageExampleGen(str(folder), SPLITS, max_rejected, metadata, "code", **options)
        properties = {
            name: value if isinstance(value, str | float | int) else proto_utils.proto_to_json(value)
            for name, value in component.exec_properties.items()
            if value is not None
        }
        properties = component.driver_class(None).resolve_exec_properties(properties, None, None)
        where = tmp_path / f"run-{time.monotonic_ns()}"
        examples, rejects = standard_artifacts.Examples(), simple_artifacts.File()
        examples.uri, rejects.uri = str(where / "examples"), str(where / "rejects")
        Path(rejects.uri).mkdir(parents=True)
        image_example_gen.Executor().Do({}, {"examples": [examples], "rejects": [rejects]}, properties)
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
        return Ingested(read, examples, read_rejects(rejects.uri), read_counts(rejects.uri))

    return run


def test_every_file_is_an_example_or_a_reject(image_folder: Folders, ingest: Callable[..., Ingested]) -> None:
    folder = image_folder(cat=30, dog=20)
    (folder / "dog" / "UPPER.JPG").write_bytes(encoded(picture(77), "WEBP", lossless=True))
    (folder / "cat" / "cut.jpg").write_bytes(encoded(picture(78), "JPEG")[:-60])
    (folder / "cat" / "notes.txt").write_text("no image")
    (folder / "README").write_text("no image")
    done = ingest(folder, max_rejected=0.1)

    assert Counter(example["image/path"].decode() for example in done.all()) == Counter(
        {str(path.relative_to(folder)): 1 for path in [*folder.glob("*/*.png"), folder / "dog" / "UPPER.JPG"]}
    )
    assert [(reject["path"], reject["stage"]) for reject in done.rejects] == [
        ("README", "find"),
        ("cat/cut.jpg", "decode"),
        ("cat/notes.txt", "identify"),
    ]
    sizes = {split: len(examples) for split, examples in done.examples.items()}
    classes = done.counts.pop("classes")
    assert done.counts == {"found": 54, "read": 51, "rejected": 3, **sizes}
    assert {name: sum(numbers.values()) for name, numbers in classes.items()} == {"cat": 32, "dog": 21}
    assert classes["cat"]["rejected"] == 2
    assert {split: done.artifact.get_int_custom_property(f"examples_{split}") for split in SPLITS} == sizes


def test_the_features_of_an_example(image_folder: Folders, ingest: Callable[..., Ingested]) -> None:
    folder = image_folder(cat=2, dog=2)
    data = encoded(picture(5, 400, 300), "WEBP", lossless=True)
    (folder / "dog" / "übung.webp").write_bytes(data)
    (example,) = (e for e in ingest(folder).all() if e["image/format"] == b"png" and e["image/width"] == 400)
    pixels = tf.io.decode_image(example.pop("image/encoded")).numpy()
    np.testing.assert_array_equal(pixels, np.asarray(picture(5, 400, 300)))
    assert len(example.pop("image/sha256")) == 64
    assert example == {
        "image/format": b"png",
        "image/width": 400,
        "image/height": 300,
        "image/path": "dog/übung.webp".encode(),
        "label": b"dog",
        "slice/resolution": b"medium",
        "slice/aspect": b"landscape",
        "slice/brightness": b"medium",
        "slice/format": b"webp",
    }


def test_a_picture_stays_in_its_split_as_the_data_grows(image_folder: Folders, ingest: Callable[..., Ingested]) -> None:
    folder = image_folder(cat=60, dog=40)
    (folder / "dog" / "copy-of-a-cat.png").write_bytes((folder / "cat" / "0000.png").read_bytes())
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


def test_too_many_rejects_stop_the_run_in_the_users_words(
    image_folder: Folders, ingest: Callable[..., Ingested]
) -> None:
    folder = image_folder(cat=20, dog=18)
    for i in range(12):
        (folder / "dog" / f"bad{i:02d}.jpg").write_text("no image")
    with pytest.raises(InputError) as error:
        ingest(folder, max_rejected=0.2)
    message = str(error.value)
    assert message.startswith("12 of 50 files (24.0%) cannot be used as images; data.max_rejected allows 20.0%:")
    assert "  dog/bad00.jpg: not an image" in message and "dog/bad09.jpg" in message
    assert "dog/bad10.jpg" not in message and "and 2 more" in message
    assert len(ingest(folder, max_rejected=0.25).rejects) == 12


def test_a_folder_without_one_usable_image_is_refused_whatever_is_allowed(
    tmp_path: Path, ingest: Callable[..., Ingested]
) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        (tmp_path / "images" / label / "a.jpg").touch()
    with pytest.raises(InputError, match=r"2 of 2 files .*\n  cat/a.jpg: the file is empty"):
        ingest(tmp_path / "images", max_rejected=1.0)


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
    assert window.counts["read"] == 11
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
    for i in range(60):  # 3 MB each, which neither PNG nor gzip could make smaller
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
    assert read_counts(rejects.uri)["read"] == 60
    assert megabytes > 150
    assert most - before < megabytes / 2  # measured: 25 MB more; with a shuffle of the images, all of them and more


def test_is_cached_until_an_image_moves_to_another_class_or_a_span_arrives(
    image_folder: Folders, tmp_path: Path
) -> None:
    folder = image_folder("day-1", cat=3, dog=2)

    def run() -> int:
        """Runs the pipeline as users do; returns how many results there are by now."""
        component = ImageExampleGen(f"{tmp_path}/day-{{SPAN}}", SPLITS, 0.0, None, "code", window=2)
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
    counts = [json.loads(path.read_text()) for path in tmp_path.glob("root/*/rejects/*/counts.json")]
    assert sorted(sum(count["classes"]["dog"].values()) for count in counts) == [2, 3, 4]
