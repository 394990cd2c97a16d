"""Files and folders are published in one step or not at all, through no link, and what kills left is cleared."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core import atomic_io
from core.errors import InputError

REMAINS = ".unfinished-" + "0" * 32


def test_a_file_is_replaced_only_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    with atomic_io.replacing(path) as file:
        file.write("new")
        assert path.read_text() == "old"

    assert path.read_text() == "new"


def test_a_block_that_raises_leaves_what_was_there_and_no_remains(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    with pytest.raises(KeyboardInterrupt), atomic_io.replacing(path) as file:
        file.write("ne")
        raise KeyboardInterrupt

    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.json", "old")]


def test_names_of_files_that_are_not_utf8_can_be_written(tmp_path: Path) -> None:
    atomic_io.write_text(tmp_path / "a", "caf\udce9\n")

    assert (tmp_path / "a").read_bytes() == b"caf\\udce9\n"


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(InputError, match="is not a regular file"):
            atomic_io.write_text(path, "x")
    with pytest.raises(InputError, match=r"there is no folder .*/absent to write x in"):
        atomic_io.write_text(tmp_path / "absent" / "x", "x")


def test_a_link_is_replaced_and_never_written_through(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("mine")
    link.symlink_to(target)

    atomic_io.write_text(link, "new")

    assert target.read_text() == "mine" and link.read_text() == "new" and not link.is_symlink()


@pytest.mark.parametrize("where", ["write", "sync", "rename"])
def test_a_full_disk_leaves_the_old_file_and_is_said_by_its_name(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "sync":
        monkeypatch.setattr(os, "fsync", full)
    elif where == "rename":
        monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left") as raised, atomic_io.replacing(path) as file:
        file.write("new")
        if where == "write":
            full()

    assert raised.value.filename == str(path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.json", "old")]


def write_folder(folder: str, content: str) -> None:
    Path(folder, "inside").mkdir()
    Path(folder, "inside", "file").write_text(content)


def read_folder(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "fallback"])
@pytest.mark.parametrize("before", ["nothing", "folder", "link"])
def test_a_folder_takes_the_place_of_what_was_there(
    before: str, exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    home.mkdir()
    target = home / "target"
    if before == "folder":
        target.mkdir()
        (target / "old").write_text("old")
    elif before == "link":
        target.symlink_to(elsewhere)
    if not exchanges:
        monkeypatch.setattr(sys, "platform", "another")

    with atomic_io.staging_directory(str(target)) as unfinished:
        write_folder(unfinished, "new")
        assert not (target / "inside").exists()
        atomic_io.publish(unfinished, str(target))

    assert read_folder(home) == {"target/inside/file": "new"} and not target.is_symlink()
    assert read_folder(elsewhere) == {"mine": "mine"}
    assert [path.name for path in home.iterdir()] == ["target"]


def test_a_folder_that_is_not_published_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_io.staging_directory(f"{tmp_path}/target") as unfinished:
        write_folder(unfinished, "half")
        raise ZeroDivisionError

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", ["file", "folder", "dangling link"])
def test_nothing_is_replaced_where_that_is_not_meant(there: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    if there == "file":
        target.touch()
    elif there == "folder":
        target.mkdir()
    else:
        target.symlink_to("nowhere")
    with atomic_io.staging_directory(str(target)) as unfinished:
        with pytest.raises(FileExistsError):
            atomic_io.publish(unfinished, str(target), replace=False)
        with pytest.raises(FileExistsError):
            atomic_io.move(Path(unfinished), target)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was synced, in order: files and folders inside, then, when it has its name, the folder around it."""
    synced: list[str] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    with atomic_io.staging_directory(f"{tmp_path}/target") as unfinished:
        write_folder(unfinished, "new")
        atomic_io.publish(unfinished, f"{tmp_path}/target")
    assert synced == [f"{unfinished}/inside/file", f"{unfinished}/inside", unfinished, str(tmp_path)]

    synced.clear()
    atomic_io.write_text(tmp_path / "file", "new")
    assert [Path(path).parent for path in synced] == [tmp_path, tmp_path.parent] and synced[1] == str(tmp_path)


def test_what_a_killed_process_left_is_cleared_by_the_next_write(tmp_path: Path) -> None:
    code = f"""
import os
from core import atomic_io
target = {str(tmp_path / "target")!r}
with atomic_io.staging_directory(target) as folder, atomic_io.replacing(target):
    open(folder + "/half", "w").write("half")
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert len(list(tmp_path.iterdir())) == 2

    atomic_io.write_text(tmp_path / "target", "whole")

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("target", "whole")]


def test_what_another_is_writing_is_left_alone_and_so_are_names_of_others(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-notes").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").touch()
    (tmp_path / REMAINS).symlink_to("elsewhere")
    with (tmp_path / (REMAINS[:-1] + "1")).open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with atomic_io.staging_directory(f"{tmp_path}/a") as mine:
            atomic_io.write_text(tmp_path / "b", "b")
            assert Path(mine).is_dir()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".unfinished-notes", "elsewhere", REMAINS, REMAINS[:-1] + "1", "b"}
    assert (tmp_path / "elsewhere" / "mine").exists()


def test_of_a_link_only_the_link_is_discarded(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").touch()
    (tmp_path / "link").symlink_to("there")
    atomic_io.discard(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["there"] and (tmp_path / "there" / "mine").exists()
    atomic_io.discard(tmp_path / "there")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_another_takes_for_remains_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that write in one folder: the other looks between the making and the lock."""
    mkdir = Path.mkdir
    cleared: list[Path] = []

    def mkdir_and_clear(path: Path, *arguments: object, **more: object) -> None:
        mkdir(path, *arguments, **more)  # type: ignore[arg-type]
        if path.name.startswith(".unfinished-") and not cleared:
            cleared.append(path)
            atomic_io.clear_remains(path.parent)
            assert not path.exists()

    monkeypatch.setattr(Path, "mkdir", mkdir_and_clear)
    with atomic_io.staging_directory(str(tmp_path / "a")) as directory:
        Path(directory, "file").touch()
        atomic_io.publish(directory, str(tmp_path / "a"))
    assert cleared and (tmp_path / "a" / "file").exists()
