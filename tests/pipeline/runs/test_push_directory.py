"""The push directory's versions: which one serves, which are deleted, and the way back."""

from pathlib import Path

import pytest

from core.errors import InputError
from pipeline.runs import push_directory


def push(directory: Path, *numbers: int, complete: bool = True) -> list[Path]:
    """Leaves versions as Pusher does; an incomplete one lacks saved_model.pb."""
    folders = [directory / str(number) for number in numbers]
    for folder in folders:
        (folder / "variables").mkdir(parents=True)
        (folder / "variables" / "variables.index").write_text(folder.name)
        if complete:
            (folder / "saved_model.pb").write_text(folder.name)
    return folders


def test_versions_are_ordered_by_number_not_by_text(tmp_path: Path) -> None:
    push(tmp_path, 1000, 999, 20)

    assert [v.name for v in push_directory.versions(tmp_path)] == ["20", "999", "1000"]
    assert push_directory.latest(tmp_path).name == "1000"


def test_only_complete_numbered_folders_are_versions(tmp_path: Path) -> None:
    push(tmp_path, 1)
    push(tmp_path, 2, complete=False)
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
        push_directory.latest(tmp_path / directory)
    with pytest.raises(InputError, match="no model has been pushed to"):
        push_directory.rollback(tmp_path / directory)


def test_prune_deletes_the_oldest_beyond_keep(tmp_path: Path) -> None:
    push(tmp_path, 1, 2, 3, 4)

    assert [v.name for v in push_directory.prune(tmp_path, keep=2)] == ["1", "2"]
    assert sorted(e.name for e in tmp_path.iterdir()) == ["3", "4"]
    assert push_directory.prune(tmp_path, keep=2) == []


def test_prune_clears_old_remains_but_not_a_push_under_way(tmp_path: Path) -> None:
    push(tmp_path, 2, 3)
    push(tmp_path, 1, 9, complete=False)

    assert [v.name for v in push_directory.prune(tmp_path, keep=5)] == ["1"]
    assert sorted(e.name for e in tmp_path.iterdir()) == ["2", "3", "9"]


def test_prune_never_deletes_the_version_in_service(tmp_path: Path) -> None:
    push(tmp_path, 7)

    assert push_directory.prune(tmp_path, keep=1) == []
    with pytest.raises(InputError, match="at least the version in service must stay"):
        push_directory.prune(tmp_path, keep=0)
    assert push_directory.latest(tmp_path).name == "7"


def test_rollback_moves_the_newest_out_of_service_in_one_piece(tmp_path: Path) -> None:
    push(tmp_path, 1, 2, 3)

    moved, serving = push_directory.rollback(tmp_path)

    assert (moved, serving) == (tmp_path / ".rolled_back" / "3", tmp_path / "2")
    assert (moved / "saved_model.pb").read_text() == "3"
    assert (moved / "variables" / "variables.index").read_text() == "3"
    assert push_directory.latest(tmp_path) == serving
    push(tmp_path, 4)
    assert push_directory.rollback(tmp_path) == (tmp_path / ".rolled_back" / "4", tmp_path / "2")


def test_the_only_version_stays_in_service(tmp_path: Path) -> None:
    push(tmp_path, 5)
    push(tmp_path, 4, complete=False)

    with pytest.raises(InputError, match="only version 5: there is no earlier one"):
        push_directory.rollback(tmp_path)
    assert push_directory.latest(tmp_path).name == "5"


def test_a_version_rolled_back_before_is_not_overwritten(tmp_path: Path) -> None:
    push(tmp_path, 1, 2)
    push(tmp_path / ".rolled_back", 2)

    with pytest.raises(InputError, match=r"\.rolled_back/2 is already there"):
        push_directory.rollback(tmp_path)
    assert push_directory.latest(tmp_path).name == "2"
