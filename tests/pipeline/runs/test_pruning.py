"""What is deleted of old runs, and that the next runs miss nothing: with TFX's cache and our resolvers."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from ml_metadata.proto import metadata_store_pb2 as pb

from core.artifacts.nodes import RESOLVERS
from core.artifacts.training_summary import MODEL_RUN
from pipeline.runs import pruning, push_directory
from pipeline.runs.lineage import NodeRun
from pipeline.runs.pruning import Pruned, prune_runs
from pipeline.runs.run_dir import ARTIFACTS
from tests.pipeline.runs.small_runs import NAME, SIZE, run, store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "root" / NAME


def prune(folder: Path, keep: int) -> Pruned:
    return prune_runs(store(folder), NAME, folder, keep)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / ARTIFACTS).rglob("*") if path.is_file())


def states(folder: Path) -> dict[str, int]:
    """Of the artifacts whose folders there are, or were, by their paths."""
    return {artifact.uri: artifact.state for artifact in store(folder).get_artifacts()}


def read(nodes: dict[str, NodeRun], node: str, key: str) -> list[str]:
    """What a stage read."""
    return [artifact.uri for artifact in nodes[node].inputs.get(key, [])]


def test_many_runs_take_the_room_of_the_kept_ones_and_each_finds_what_it_is_compared_with(folder: Path) -> None:
    sizes, freed = [], 0
    for number in range(8):
        nodes = run(folder, number, day=f"day {number // 2}", steps=number, blessed=number % 3 != 2)
        push_directory.prune(str(folder / "serving"), 1)
        freed += prune(folder, 2).size
        sizes.append(size(folder))
        for stage in ("Data", "Gate", "Extractor"):  # a new day, or that of the run before
            assert nodes[stage].cached is (number % 2 == 1), (number, stage)
        assert len(read(nodes, "Judge", "baseline")) == (number > 0)
        assert len(read(nodes, "Gate", "baseline")) == (number > 1)
        assert len(read(nodes, "Extractor", "earlier")) == min(number // 2, 4)
        assert all(
            Path(uri).is_dir() for node in nodes.values() for key in node.inputs for uri in read(nodes, node.id, key)
        )
    assert sizes[-1] <= sizes[4] + 2 * SIZE, "the features of up to four earlier days, no more"
    assert freed > 10 * SIZE and prune(folder, 2).artifacts == 0

    again = run(folder, 8, day="day 3", steps=7)
    made = [node for node in again.values() if node.id not in RESOLVERS]
    assert all(node.cached for node in made) and len(made) == 6
    other = run(folder, 9, day="day 0", steps=0)  # whose artifacts were deleted: made again, not taken from the cache
    assert not other["Data"].cached and not other["Train"].cached
    (model,) = other["Train"].outputs["model"]
    assert (Path(model.uri) / "0").stat().st_size == SIZE


def test_a_version_in_service_keeps_its_run_and_one_that_was_rolled_back_does(folder: Path) -> None:
    for number in range(4):
        run(folder, number, day=f"day {number}", steps=1, blessed=number < 2)
    push_directory.rollback(str(folder / "serving"))
    prune(folder, 1)
    kept = sorted(int(path.name) for path in (folder / ARTIFACTS / "Data" / "examples").iterdir())
    assert kept == [1, 10, 28]


def test_of_many_runs_that_found_the_same_version_serving_the_last_is_kept(folder: Path) -> None:
    """On an orchestrator nothing is pushed anew on a day without new data, but Pusher runs."""
    version = folder / "serving" / "1"
    version.mkdir(parents=True)
    ledger = store(folder)
    pushes = [run(folder, number, day="day", steps=number)["Push"].outputs["pushed"][0].id for number in range(3)]
    for artifact in ledger.get_artifacts_by_id(pushes):
        artifact.custom_properties["pushed_destination"].string_value = str(version)
        ledger.put_artifacts([artifact])
    prune(folder, 1)
    live = [one.id for one in ledger.get_artifacts_by_id(pushes) if one.state == pb.Artifact.LIVE]
    assert live == pushes[-1:]


def test_a_killed_training_stays_while_its_run_does(folder: Path) -> None:
    first, _, last = (run(folder, number, day="day", steps=number) for number in range(3))
    trainings = folder / ARTIFACTS / MODEL_RUN.node / MODEL_RUN.output
    old, new = (trainings / str(nodes["Train"].execution) for nodes in (first, last))
    for training in (old, new):
        training.mkdir(parents=True)
        (training / "model.ckpt-9.index").write_bytes(b"1234")
    shutil.rmtree(folder / "serving")
    prune(folder, 1)
    assert not old.exists() and new.exists()


@pytest.mark.parametrize("free", [0, 2**30])
def test_on_a_full_disk_room_is_made_before_ml_metadata_writes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    for number in range(2):
        run(folder, number, day=f"day {number}", steps=1, blessed=False)
    ledger = store(folder)
    mark = ledger.put_artifacts
    there: list[bool] = []

    def watched(artifacts: list[pb.Artifact]) -> None:
        there.extend(Path(one.uri).exists() for one in artifacts)
        mark(artifacts)

    monkeypatch.setattr(ledger, "put_artifacts", watched)
    monkeypatch.setattr(pruning.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert prune_runs(ledger, NAME, folder, 1).size > 2 * SIZE
    assert there and set(there) == {free > 0}
    assert not (folder / ARTIFACTS / "Data/examples/1").exists()


def test_what_a_kill_leaves_the_next_call_deletes_and_no_link_is_followed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        run(folder, number, day=f"day {number}", steps=number, blessed=False)
    elsewhere = tmp_path / "elsewhere"
    doomed = folder / ARTIFACTS / "Data/examples/1", folder / ARTIFACTS / "Data/statistics/1"
    shutil.move(doomed[0], elsewhere)
    doomed[0].symlink_to(elsewhere)
    (doomed[1] / "link").symlink_to(elsewhere)
    away = folder / ARTIFACTS / "Train"  # all of a stage on another disk: what a link leads out to is not deleted
    shutil.move(away, tmp_path / "disk")
    away.symlink_to(tmp_path / "disk")

    def die(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(pruning.shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            prune(folder, 1)
    assert states(folder)[str(doomed[1])] == pb.Artifact.DELETED and doomed[1].is_dir()
    assert run(folder, 3, day="day 0", steps=5, blessed=False)["Data"].outputs["examples"][0].uri != str(doomed[0])

    assert prune(folder, 1).size > SIZE
    assert not doomed[0].is_symlink() and not doomed[1].exists() and list(elsewhere.iterdir())
    assert len([*(tmp_path / "disk" / "model").iterdir()]) == 4


def test_the_newest_logs_stay_and_whatever_ml_metadata_says_is_elsewhere(folder: Path, tmp_path: Path) -> None:
    for number in range(2):
        run(folder, number, day=f"day {number}", steps=1, blessed=False)
    (folder / "logs").mkdir()
    for number in range(60):
        (folder / "logs" / f"{number:02}.log").touch()
    ledger = store(folder)
    mine = tmp_path / "mine"
    mine.mkdir()
    artifact = next(one for one in ledger.get_artifacts() if one.uri.endswith("Data/examples/1"))
    for uri in (str(mine), f"{folder / ARTIFACTS}/../../../mine", str(folder / ARTIFACTS)):
        artifact.uri = uri
        ledger.put_artifacts([artifact])
        prune(folder, 1)
        assert mine.is_dir() and (folder / ARTIFACTS / "Data/examples/10").is_dir()
    assert sorted(path.name for path in (folder / "logs").iterdir()) == [f"{number}.log" for number in range(10, 60)]
