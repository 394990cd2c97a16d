"""Artifacts that were damaged are found before a run uses them, and everything else is left alone."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2 as pb

from pipeline.runs import integrity
from pipeline.runs.lineage import latest_run_id, node_runs
from pipeline.runs.metadata import open_store
from tests.pipeline.report.report_run import NAME, write_run

LARGE = integrity._SMALL + 1000


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A small file, a large one of records, and a folder within."""
    folder = tmp_path / "artifact"
    (folder / "Split-train").mkdir(parents=True)
    (folder / "statistics.pb").write_bytes(b"small")
    with tf.io.TFRecordWriter(str(folder / "Split-train" / "records")) as writer:
        for number in range(4):
            writer.write(bytes([number]) * (LARGE // 4))
    return folder


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_at_a_records_end(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 4 * 3)
    assert len(list(tf.data.TFRecordDataset(str(path)))) == 3  # which TensorFlow reads as if they were all


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: flip(folder / "statistics.pb"), "the content of statistics.pb has changed"),
        (lambda folder: flip(folder / "Split-train" / "records"), "the content of Split-train/records has changed"),
        (lambda folder: cut_at_a_records_end(folder / "Split-train" / "records"), "Split-train/records has 787"),
        (lambda folder: (folder / "statistics.pb").unlink(), "statistics.pb is gone"),
        (lambda folder: shutil.rmtree(folder / "Split-train"), "Split-train/records is gone"),
        (lambda folder: shutil.rmtree(folder), "it is gone"),
        (lambda folder: (folder / "Split-train" / "more").touch(), "Split-train/more was added"),
    ],
    ids=["small flipped", "large flipped", "cut", "file gone", "folder gone", "all gone", "added"],
)
def test_damage_is_found_and_named(artifact: Path, damage: Callable[[Path], None], said: str) -> None:
    properties = {integrity.FILES: integrity.describe(str(artifact))}
    assert integrity.damage(str(artifact), properties) is None
    damage(artifact)
    found = integrity.damage(str(artifact), properties)
    assert found and found.startswith(said)


def test_large_files_are_read_only_where_their_time_has_changed_or_a_stage_failed(artifact: Path) -> None:
    properties = {integrity.FILES: integrity.describe(str(artifact))}
    file = artifact / "Split-train" / "records"
    before = file.stat()
    flip(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk does it that forgets
    assert integrity.damage(str(artifact), properties) is None
    assert integrity.damage(str(artifact), properties, thorough=True) == (
        "the content of Split-train/records has changed"
    )


def test_a_copy_is_read_once(artifact: Path) -> None:
    properties = {integrity.FILES: integrity.describe(str(artifact))}
    before = (artifact / "Split-train" / "records").stat().st_mtime_ns
    for file in artifact.rglob("*"):
        file.touch()
    assert integrity.damage(str(artifact), properties) is None
    assert (artifact / "Split-train" / "records").stat().st_mtime_ns == before


def test_what_nobody_described_or_lies_elsewhere_is_taken_as_it_is(artifact: Path) -> None:
    assert integrity.describe("gs://bucket/artifact") is None
    assert integrity.damage(str(artifact), {}) is None


def test_hidden_files_do_not_matter(artifact: Path) -> None:
    properties = {integrity.FILES: integrity.describe(str(artifact))}
    (artifact / ".DS_Store").touch()
    assert integrity.damage(str(artifact), properties) is None


@pytest.mark.parametrize("inputs_only", [False, True])
def test_what_is_damaged_is_no_longer_offered_to_caches_and_resolvers(tmp_path: Path, inputs_only: bool) -> None:
    folder = tmp_path.resolve()
    run_id = write_run(folder, "pushed").run_id or ""
    store, artifacts = open_store(folder, None), folder / "artifacts"
    for artifact in store.get_artifacts():
        artifact.state = pb.Artifact.LIVE
        artifact.custom_properties[integrity.FILES].string_value = integrity.describe(artifact.uri) or ""
        store.put_artifacts([artifact])
    assert integrity.discard_damaged(store, artifacts) == []
    assert latest_run_id(store, NAME) == run_id
    reader, read = next((n, a) for n in node_runs(store, run_id).values() for made in n.inputs.values() for a in made)
    for name in ("one", "two"):
        (Path(read.uri) / name).touch()

    if inputs_only:
        (said,) = integrity.discard_damaged_inputs(store, run_id, reader.id, artifacts)
    else:
        (said,) = integrity.discard_damaged(store, artifacts)

    assert said == (
        f"{Path(read.uri).relative_to(artifacts)} is damaged: one was added; "
        "it is not used, and made again where it is needed"
    )
    gone = [a.id for a in store.get_artifacts() if a.state != pb.Artifact.LIVE]
    assert gone == [read.id]
    assert integrity.discard_damaged(store, artifacts) == []
