"""The push directory's versions: which one serves, which are deleted, and the way back."""

import fcntl
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from core import checksums, storage
from core.artifacts.pushed_model import locked
from core.errors import InputError
from core.storage import StoreError
from pipeline.runs import push_directory
from tests.small_model import cut, flip, write_model, write_versions
from tests.stores import Store

HOW = {"flipped": flip, "cut": cut, "without a list": lambda version: shutil.rmtree(version / "assets.extra")}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != ".lock")


def latest(directory: Path) -> str:
    return Path(push_directory.latest(str(directory), pytest.fail)).name


def test_versions_are_ordered_by_number_not_by_text(tmp_path: Path) -> None:
    write_versions(tmp_path, 1000, 999, 20)

    assert [Path(v).name for v in push_directory.versions(str(tmp_path))] == ["20", "999", "1000"]
    assert latest(tmp_path) == "1000"


def test_only_complete_numbered_folders_are_versions(tmp_path: Path) -> None:
    write_versions(tmp_path, 1)
    cut(write_model(tmp_path / "2"))
    shutil.rmtree(write_model(tmp_path / "4") / "variables")
    (tmp_path / "3").write_text("a file")
    (tmp_path / "notes").mkdir()
    (tmp_path / "²").mkdir()

    assert [Path(v).name for v in push_directory.versions(str(tmp_path))] == ["1"]


@pytest.mark.parametrize("directory", ["empty", "missing"])
def test_nothing_pushed_is_said_in_words(directory: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert push_directory.versions(str(tmp_path / directory)) == []
    assert push_directory.prune(str(tmp_path / directory), 1) == []
    with pytest.raises(InputError, match="no model has been pushed to"):
        latest(tmp_path / directory)
    with pytest.raises(InputError, match="no model has been pushed to"):
        push_directory.rollback(str(tmp_path / directory))


@pytest.mark.parametrize("how", HOW)
def test_the_newest_good_version_is_the_latest_and_why_is_said(how: str, tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2)
    HOW[how](tmp_path / "2")
    said: list[str] = []

    assert Path(push_directory.latest(str(tmp_path), said.append)).name == "1"

    (sentence,) = said
    assert sentence.startswith("version 2 is not used: ") and sentence.endswith("; taken instead: version 1")
    flip(tmp_path / "1")
    with pytest.raises(InputError, match=r"no version in .* is good: version 2 .*; version 1 .*the next run pushes"):
        latest(tmp_path)


def test_prune_deletes_the_oldest_beyond_keep(tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2, 3, 4)

    assert [Path(v).name for v in push_directory.prune(str(tmp_path), keep=2)] == ["1", "2"]
    assert names(tmp_path) == ["3", "4"]
    assert push_directory.prune(str(tmp_path), keep=2) == []


@pytest.mark.parametrize("how", ["flipped", "cut"])
@pytest.mark.parametrize("damaged", ["4", "3", "4 3"])
def test_prune_keeps_good_versions_and_deletes_no_newer_one(damaged: str, how: str, tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2, 3, 4)
    for number in damaged.split():
        HOW[how](tmp_path / number)

    push_directory.prune(str(tmp_path), keep=1)

    assert names(tmp_path) == {"4": ["3", "4"], "3": ["4"], "4 3": ["2", "3", "4"]}[damaged]


def test_where_no_version_is_good_prune_deletes_none(tmp_path: Path) -> None:
    for version in write_versions(tmp_path, 1, 2, 3):
        flip(version)
    assert push_directory.prune(str(tmp_path), keep=1) == [] and names(tmp_path) == ["1", "2", "3"]


def test_prune_clears_what_killed_pushes_left_but_no_push_under_way(tmp_path: Path) -> None:
    write_versions(tmp_path, 3)
    under_way, remains = (tmp_path / f".unfinished-{digit * 32}" for digit in "01")
    under_way.mkdir()
    remains.mkdir()
    (remains / "saved_model.pb").touch()
    descriptor = os.open(under_way, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        assert push_directory.prune(str(tmp_path), keep=5) == []
    finally:
        os.close(descriptor)
    assert names(tmp_path) == [under_way.name, "3"]


def test_prune_leaves_what_is_not_this_pipelines(tmp_path: Path) -> None:
    write_versions(tmp_path, 2, 3)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()

    assert [Path(v).name for v in push_directory.prune(str(tmp_path), keep=1)] == ["2"]
    assert names(tmp_path) == ["1", "3"]


def test_prune_unlinks_a_linked_version_and_leaves_what_it_leads_to(tmp_path: Path) -> None:
    write_model(tmp_path / "elsewhere")
    write_versions(tmp_path / "serving", 2)
    (tmp_path / "serving" / "1").symlink_to("../elsewhere")

    assert [Path(v).name for v in push_directory.prune(str(tmp_path / "serving"), keep=1)] == ["1"]
    assert names(tmp_path / "serving") == ["2"]
    assert (tmp_path / "elsewhere" / "saved_model.pb").is_file()


def test_prune_never_deletes_the_version_in_service(tmp_path: Path) -> None:
    write_versions(tmp_path, 7)

    assert push_directory.prune(str(tmp_path), keep=1) == []
    with pytest.raises(InputError, match="at least the version in service must stay"):
        push_directory.prune(str(tmp_path), keep=0)
    assert latest(tmp_path) == "7"


@pytest.mark.parametrize("change", [lambda folder: push_directory.prune(folder, 1), push_directory.rollback])
def test_pruning_and_rolling_back_wait_for_who_pushes(change, tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2)
    with locked(str(tmp_path)):
        other = threading.Thread(target=change, args=(str(tmp_path),))
        other.start()
        other.join(0.2)
        assert other.is_alive() and names(tmp_path) == ["1", "2"]
    other.join()
    assert len(push_directory.versions(str(tmp_path))) == 1


def test_rollback_moves_the_newest_out_of_service_in_one_piece(tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2, 3)

    (moved,), serving = push_directory.rollback(str(tmp_path))

    assert (moved, serving) == (f"{tmp_path}/.rolled_back/3", f"{tmp_path}/2")
    assert Path(moved, "saved_model.pb").read_text() == "saved_model.pb: version 3"
    assert latest(tmp_path) == "2"
    write_versions(tmp_path, 4)
    assert push_directory.rollback(str(tmp_path)) == ([f"{tmp_path}/.rolled_back/4"], f"{tmp_path}/2")


@pytest.mark.parametrize("how", HOW)
def test_rollback_goes_to_a_version_that_verifies(how: str, tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2, 3)
    HOW[how](tmp_path / "2")

    moved, serving = push_directory.rollback(str(tmp_path))

    assert serving == f"{tmp_path}/1" and latest(tmp_path) == "1"
    assert [Path(version).name for version in moved] == ["2", "3"]
    assert names(tmp_path) == [".rolled_back", "1"]


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_newest_version_can_be_rolled_back(how: str, tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2)
    HOW[how](tmp_path / "2")

    assert push_directory.rollback(str(tmp_path)) == ([f"{tmp_path}/.rolled_back/2"], f"{tmp_path}/1")


def test_a_linked_version_is_rolled_back_and_still_leads_to_its_model(tmp_path: Path) -> None:
    write_model(tmp_path / "elsewhere")
    write_versions(tmp_path / "serving", 1)
    (tmp_path / "serving" / "2").symlink_to("../elsewhere")

    (moved,), _ = push_directory.rollback(str(tmp_path / "serving"))

    assert Path(moved).is_symlink() and Path(moved, "saved_model.pb").is_file()
    assert latest(tmp_path / "serving") == "1"


def test_the_only_good_version_stays_in_service(tmp_path: Path) -> None:
    write_versions(tmp_path, 5)
    with pytest.raises(InputError, match="only version 5: there is no good earlier one"):
        push_directory.rollback(str(tmp_path))
    flip(*write_versions(tmp_path, 4))
    with pytest.raises(InputError, match="only version 5, and 1 earlier that are damaged: there is no good earlier"):
        push_directory.rollback(str(tmp_path))
    assert latest(tmp_path) == "5" and names(tmp_path) == ["4", "5"]


def test_a_version_rolled_back_before_is_not_overwritten(tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2)
    write_versions(tmp_path / ".rolled_back", 2)

    with pytest.raises(InputError, match=r"\.rolled_back/2 is already there"):
        push_directory.rollback(str(tmp_path))
    assert latest(tmp_path) == "2"


@pytest.fixture
def remote(gs: Store, tmp_path: Path) -> Callable[..., str]:
    """Uploads versions; gives the URL of their folder."""

    def upload(*numbers: int) -> str:
        folder = tmp_path / "here"
        for version in write_versions(folder, *numbers):
            for name in checksums.files(str(version)):
                storage.copy(f"{version}/{name}", f"{gs.url}/serving/{version.name}/{name}")
        return f"{gs.url}/serving"

    return upload


def numbers(paths: list[str]) -> list[str]:
    return [Path(path).name for path in paths]


def test_in_a_store_versions_are_found_deleted_and_rolled_back_too(
    remote: Callable[..., str], gs: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = remote(1, 2, 3, 4, 5)
    gs.put({"serving/3/assets/classes.txt": b"assets/classes.txt: version X"})
    gs.put({"serving/6/assets/classes.txt": b"half a push"})
    assert numbers(push_directory.versions(directory)) == ["1", "2", "3", "4", "5"]
    said: list[str] = []
    assert push_directory.latest(directory, said.append) == f"{directory}/5"
    assert said == [
        f"version 6 is not used: there is no assets.extra/SHA256SUMS in {directory}/6; taken instead: version 5"
    ]
    assert numbers(push_directory.prune(directory, keep=3)) == ["1", "3"]
    assert numbers(push_directory.versions(directory)) == ["2", "4", "5"]
    storage.delete_folder(f"{directory}/6")

    delete = storage.delete_folder

    def interrupted(folder: str, first: str = "") -> None:
        storage.file_systems().delete([f"{folder}/{first}"])
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "delete_folder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        push_directory.rollback(directory)
    assert numbers(push_directory.versions(directory)) == ["2", "4"]
    monkeypatch.setattr(storage, "delete_folder", delete)
    assert push_directory.rollback(directory) == ([f"{directory}/.rolled_back/5"], f"{directory}/4")
    assert checksums.verify(f"{directory}/.rolled_back/5") and push_directory.is_there(f"{directory}/.rolled_back/5")
    assert not push_directory.is_there(f"{directory}/5")
    assert push_directory.rollback(directory)[1] == f"{directory}/2"
    with pytest.raises(InputError, match="holds only version 2: there is no good earlier one"):
        push_directory.rollback(directory)


def test_a_store_that_fails_deletes_no_version(remote: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    directory = remote(1, 2, 3)
    fetch = storage.fetch

    def failing(path: str, target: BinaryIO) -> None:
        if path.startswith(f"{directory}/2/variables"):
            raise StoreError(f"{path} cannot be read: 503")
        fetch(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "fetch", failing)
        with pytest.raises(StoreError):
            push_directory.prune(directory, keep=2)
    assert numbers(push_directory.versions(directory)) == ["1", "2", "3"]
