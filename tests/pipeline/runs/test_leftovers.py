"""What killed runs left is deleted, and nothing that a later run can use."""

from pathlib import Path

import pytest
import tensorflow as tf
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from core.artifacts.training_summary import MODEL_RUN, SUMMARY
from pipeline.runs import leftovers
from pipeline.runs.metadata import open_store
from tests.pipeline.report.report_run import write_run


@pytest.fixture
def store(tmp_path: Path) -> MetadataStore:
    write_run(tmp_path, "pushed")
    return open_store(tmp_path, None)


def execution(store: MetadataStore, state: int) -> int:
    kind = store.put_execution_type(pb.ExecutionType(name="Trainer"))
    return store.put_executions([pb.Execution(type_id=kind, last_known_state=state)])[0]


def training(tmp_path: Path, number: int, key: str, step: int, ended: bool = False) -> Path:
    folder = tmp_path / "artifacts" / MODEL_RUN.node / MODEL_RUN.output / str(number)
    folder.mkdir(parents=True)
    (folder / "training_key.txt").write_text(key)
    if step:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            global_step = tf.compat.v1.train.create_global_step()
            session.run(global_step.assign(step))
            tf.compat.v1.train.Saver().save(session, str(folder / "model.ckpt"), global_step)
    if ended:
        Path(SUMMARY.path(folder)).touch()
    return folder


def test_a_folder_without_leftovers_is_left_as_it_is(tmp_path: Path, store: MetadataStore) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert leftovers.clear(store, tmp_path) == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_working_files_and_what_no_execution_finished_are_deleted(tmp_path: Path, store: MetadataStore) -> None:
    before = sorted(tmp_path.rglob("*"))
    killed, failed = execution(store, pb.Execution.RUNNING), execution(store, pb.Execution.FAILED)
    for path in (
        f"artifacts/Trainer/model/{killed}",
        f"artifacts/Predictor/predictions/{failed}",
        f"artifacts/Trainer/.system/executor_execution/{killed}/.temp",
        "artifacts/Transform/.system/stateful_working_dir/x",
    ):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "file").write_bytes(b"12345678")
    assert leftovers.clear(store, tmp_path) == 4 * 8
    empty = {"Trainer/model", "Predictor/predictions"}
    kept = [path for path in sorted(tmp_path.rglob("*")) if not any(str(path).endswith(name) for name in empty)]
    assert {*kept} <= {*before, tmp_path / "artifacts" / "Trainer", tmp_path / "artifacts" / "Predictor",
                       tmp_path / "artifacts" / "Transform"}  # fmt: skip
    assert {*before} <= {*tmp_path.rglob("*")}


def test_of_trainings_that_were_killed_those_stay_that_can_be_resumed(tmp_path: Path, store: MetadataStore) -> None:
    numbers = [execution(store, pb.Execution.RUNNING) for _ in range(5)]
    first = training(tmp_path, numbers[0], "a", 100)
    resumed = training(tmp_path, numbers[1], "a", 200)
    other = training(tmp_path, numbers[2], "b", 50)
    before_its_first_checkpoint = training(tmp_path, numbers[3], "c", 0)
    ended_elsewhere = training(tmp_path, numbers[4], "d", 70)
    ended = training(tmp_path, 999, "d", 90, ended=True)
    damaged = training(tmp_path, 998, "e", 60)
    (damaged / "model.ckpt-60.index").write_bytes(b"12")
    leftovers.clear(store, tmp_path)
    assert [folder.exists() for folder in (first, resumed, other, before_its_first_checkpoint)] == [
        False, True, True, False,
    ]  # fmt: skip
    assert (ended_elsewhere.exists(), ended.exists(), damaged.exists()) == (False, True, False)
