"""The push directory's versions: which one serves, which are deleted, and the way back."""

import fcntl
import os
import shutil
import threading
from pathlib import Path

import pytest

from core.artifacts.pushed_model import locked
from core.errors import InputError
from pipeline.runs import push_directory
from tests.small_model import cut, flip, write_model, write_versions

HOW = {"flipped": flip, "cut": cut, "without a list": lambda version: shutil.rmtree(version / "assets.extra")}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != ".lock")


def latest(directory: Path) -> str:
    return push_directory.latest(directory, pytest.fail).name


def test_versions_are_ordered_by_number_not_by_text(tmp_path: Path) -> None:
    write_versions(tmp_path, 1000, 999, 20)

    assert [v.name for v in push_directory.versions(tmp_path)] == ["20", "999", "1000"]
    assert latest(tmp_path) == "1000"


def test_only_complete_numbered_folders_are_versions(tmp_path: Path) -> None:
    write_versions(tmp_path, 1)
    cut(write_model(tmp_path / "2"))
    shutil.rmtree(write_model(tmp_path / "4") / "variables")
    (tmp_path / "3").write_text("a file")
    (tmp_path / "notes").mkdir()
    (tmp_path / "²").mkdir()

    assert [v.name for v in push_directory.versions(tmp_path)] == ["1"]


@pytest.mark.parametrize("directory", ["empty", "missing"])
def test_nothing_pushed_is_said_in_words(directory: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert push_directory.versions(tmp_path / directory) == []
    assert push_directory.prune(tmp_path / directory, 1) == []
    with pytest.raises(InputError, match="no model has been pushed to"):
        latest(tmp_path / directory)
    with pytest.raises(InputError, match="no model has been pushed to"):
        push_directory.rollback(tmp_path / directory)


@pytest.mark.parametrize("how", HOW)
def test_the_newest_good_version_is_the_latest_and_why_is_said(how: str, tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2)
    HOW[how](tmp_path / "2")
    said: list[str] = []

    assert push_directory.latest(tmp_path, said.append).name == "1"

    (sentence,) = said
    assert sentence.startswith("version 2 is not used: ") and sentence.endswith("; taken instead: version 1")
    flip(tmp_path / "1")
    with pytest.raises(InputError, match=r"no version in .* is good: version 2 .*; version 1 .*the next run pushes"):
        latest(tmp_path)


def test_prune_deletes_the_oldest_beyond_keep(tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2, 3, 4)

    assert [v.name for v in push_directory.prune(tmp_path, keep=2)] == ["1", "2"]
    assert names(tmp_path) == ["3", "4"]
    assert push_directory.prune(tmp_path, keep=2) == []


@pytest.mark.parametrize("how", ["flipped", "cut"])
@pytest.mark.parametrize("damaged", ["4", "3", "4 3"])
def test_prune_keeps_good_versions_and_deletes_no_newer_one(damaged: str, how: str, tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2, 3, 4)
    for number in damaged.split():
        HOW[how](tmp_path / number)

    push_directory.prune(tmp_path, keep=1)

    assert names(tmp_path) == {"4": ["3", "4"], "3": ["4"], "4 3": ["2", "3", "4"]}[damaged]


def test_where_no_version_is_good_prune_deletes_none(tmp_path: Path) -> None:
    for version in write_versions(tmp_path, 1, 2, 3):
        flip(version)
    assert push_directory.prune(tmp_path, keep=1) == [] and names(tmp_path) == ["1", "2", "3"]


def test_prune_clears_what_killed_pushes_left_but_no_push_under_way(tmp_path: Path) -> None:
    write_versions(tmp_path, 3)
    under_way, remains = (tmp_path / f".unfinished-{digit * 32}" for digit in "01")
    under_way.mkdir()
    remains.mkdir()
    (remains / "saved_model.pb").touch()
    descriptor = os.open(under_way, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        assert push_directory.prune(tmp_path, keep=5) == []
    finally:
        os.close(descriptor)
    assert names(tmp_path) == [under_way.name, "3"]


def test_prune_leaves_what_is_not_this_pipelines(tmp_path: Path) -> None:
    write_versions(tmp_path, 2, 3)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()

    assert [v.name for v in push_directory.prune(tmp_path, keep=1)] == ["2"]
    assert names(tmp_path) == ["1", "3"]


def test_prune_unlinks_a_linked_version_and_leaves_what_it_leads_to(tmp_path: Path) -> None:
    write_model(tmp_path / "elsewhere")
    write_versions(tmp_path / "serving", 2)
    (tmp_path / "serving" / "1").symlink_to("../elsewhere")

    assert [v.name for v in push_directory.prune(tmp_path / "serving", keep=1)] == ["1"]
    assert names(tmp_path / "serving") == ["2"]
    assert (tmp_path / "elsewhere" / "saved_model.pb").is_file()


def test_prune_never_deletes_the_version_in_service(tmp_path: Path) -> None:
    write_versions(tmp_path, 7)

    assert push_directory.prune(tmp_path, keep=1) == []
    with pytest.raises(InputError, match="at least the version in service must stay"):
        push_directory.prune(tmp_path, keep=0)
    assert latest(tmp_path) == "7"


@pytest.mark.parametrize("change", [lambda folder: push_directory.prune(folder, 1), push_directory.rollback])
def test_pruning_and_rolling_back_wait_for_who_pushes(change, tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2)
    with locked(str(tmp_path)):
        other = threading.Thread(target=change, args=(tmp_path,))
        other.start()
        other.join(0.2)
        assert other.is_alive() and names(tmp_path) == ["1", "2"]
    other.join()
    assert len(push_directory.versions(tmp_path)) == 1


def test_rollback_moves_the_newest_out_of_service_in_one_piece(tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2, 3)

    (moved,), serving = push_directory.rollback(tmp_path)

    assert (moved, serving) == (tmp_path / ".rolled_back" / "3", tmp_path / "2")
    assert (moved / "saved_model.pb").read_text() == "saved_model.pb: version 3"
    assert latest(tmp_path) == "2"
    write_versions(tmp_path, 4)
    assert push_directory.rollback(tmp_path) == ([tmp_path / ".rolled_back" / "4"], tmp_path / "2")


@pytest.mark.parametrize("how", HOW)
def test_rollback_goes_to_a_version_that_verifies(how: str, tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2, 3)
    HOW[how](tmp_path / "2")

    moved, serving = push_directory.rollback(tmp_path)

    assert serving == tmp_path / "1" and latest(tmp_path) == "1"
    assert [version.name for version in moved] == ["2", "3"]
    assert names(tmp_path) == [".rolled_back", "1"]


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_newest_version_can_be_rolled_back(how: str, tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2)
    HOW[how](tmp_path / "2")

    assert push_directory.rollback(tmp_path) == ([tmp_path / ".rolled_back" / "2"], tmp_path / "1")


def test_a_linked_version_is_rolled_back_and_still_leads_to_its_model(tmp_path: Path) -> None:
    write_model(tmp_path / "elsewhere")
    write_versions(tmp_path / "serving", 1)
    (tmp_path / "serving" / "2").symlink_to("../elsewhere")

    (moved,), _ = push_directory.rollback(tmp_path / "serving")

    assert moved.is_symlink() and (moved / "saved_model.pb").is_file()
    assert latest(tmp_path / "serving") == "1"


def test_the_only_good_version_stays_in_service(tmp_path: Path) -> None:
    write_versions(tmp_path, 5)
    with pytest.raises(InputError, match="only version 5: there is no good earlier one"):
        push_directory.rollback(tmp_path)
    flip(*write_versions(tmp_path, 4))
    with pytest.raises(InputError, match="only version 5, and 1 earlier that are damaged: there is no good earlier"):
        push_directory.rollback(tmp_path)
    assert latest(tmp_path) == "5" and names(tmp_path) == ["4", "5"]


def test_a_version_rolled_back_before_is_not_overwritten(tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2)
    write_versions(tmp_path / ".rolled_back", 2)

    with pytest.raises(InputError, match=r"\.rolled_back/2 is already there"):
        push_directory.rollback(tmp_path)
    assert latest(tmp_path) == "2"
