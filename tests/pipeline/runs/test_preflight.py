"""What would fail a run at its end is told at its start."""

import os
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import pytest

from core import settings as pipeline_settings
from core.errors import InputError, MachineError
from core.settings import Settings
from pipeline.runs import metadata, preflight
from pipeline.runs.run_dir import METADATA, run_dir
from tests.pipeline.report.report_run import NAME, write_run


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "settings.yaml").write_text(f"name: {NAME}\ndata: {{images: {tmp_path}}}\n")
    return pipeline_settings.load(tmp_path / "settings.yaml", [f"data.schema={tmp_path}/schemas/s.pbtxt"])


def read_only(folder: Path) -> None:
    """For root too."""
    folder.mkdir(parents=True)
    command = f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"
    if subprocess.run(["sh", "-c", command], stderr=subprocess.DEVNULL, check=False).returncode:
        if os.geteuid() == 0:
            pytest.skip("this root may mount nothing, and permissions mean nothing to it")
        folder.chmod(0o500)


@pytest.mark.parametrize(
    ("place", "way_on"),
    [
        (NAME, "give another folder with ROOT"),
        (f"{NAME}/serving", "name another with push.directory"),
        ("schemas", "name another with data.schema"),
    ],
)
def test_a_folder_that_cannot_be_written_is_told_with_the_setting(
    settings: Settings, tmp_path: Path, place: str, way_on: str
) -> None:
    folder = tmp_path / place
    read_only(folder)
    try:
        with pytest.raises(InputError, match=f"^{folder} cannot be written: .*; .*{way_on}$"):
            preflight.check_folders(settings, tmp_path)
    finally:
        subprocess.run(["umount", folder], stderr=subprocess.DEVNULL, check=False)
        folder.chmod(0o700)


def test_a_file_in_the_place_of_a_folder_is_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    with pytest.raises(InputError, match=f"^{tmp_path / NAME} cannot be written: File exists; give another folder"):
        preflight.check_folders(settings, tmp_path)


def test_what_another_user_left_is_told(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.check_folders(settings, tmp_path)
    (tmp_path / NAME / METADATA).touch()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != METADATA)
    with pytest.raises(InputError, match=r"metadata.sqlite cannot be written by this user, .*sudo chown -R"):
        preflight.check_folders(settings, tmp_path)


def test_a_full_disk_is_named_with_its_room_and_its_setting(settings: Settings, tmp_path: Path) -> None:
    preflight.check_folders(settings, tmp_path)
    with pytest.raises(MachineError) as error, preflight.naming_full_disks(settings, tmp_path):
        raise OSError(28, "No space left on device", "/a/b")
    said = str(error.value)
    assert said.startswith("no space is left on the disk: /a/b. ")
    assert f"MB are free for {tmp_path / NAME} (ROOT)" in said and "(TMPDIR)" in said and "(push.directory)" in said
    with pytest.raises(ZeroDivisionError), preflight.naming_full_disks(settings, tmp_path):
        raise ZeroDivisionError


def test_little_room_is_noted_once_for_each_disk(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preflight.check_folders(settings, tmp_path)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert list(preflight.notes_on_disk(settings, tmp_path)) == []
    monkeypatch.setattr(preflight, "_NEEDED_MB", 10**9)
    (said,) = preflight.notes_on_disk(settings, tmp_path)
    assert f"MB are free for {tmp_path / NAME} (ROOT)" in said


def test_metadata_that_are_whole_are_said_nothing_of(tmp_path: Path) -> None:
    assert list(preflight.check_metadata(tmp_path)) == []  # the first run
    write_run(tmp_path, "pushed")
    assert list(preflight.check_metadata(tmp_path)) == []
    with sqlite3.connect(tmp_path / METADATA) as locked:
        locked.execute("BEGIN EXCLUSIVE")
        assert list(preflight.check_metadata(tmp_path)) == []


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_metadata_that_are_gone_are_told_and_end_no_run(tmp_path: Path, how: str) -> None:
    write_run(tmp_path, "pushed")
    path = tmp_path / METADATA
    path.unlink() if how == "gone" else path.write_bytes(b"")
    (said,) = preflight.check_metadata(tmp_path)
    assert said.startswith(f"{path} is gone: ML Metadata, which knows all runs") and "no last blessed model" in said


@pytest.mark.parametrize("how", ["header", "middle", "another"])
def test_metadata_that_are_damaged_are_told_with_the_way_on_which_works(tmp_path: Path, how: str) -> None:
    write_run(tmp_path, "pushed")
    path = tmp_path / METADATA
    content = bytearray(path.read_bytes())
    if how == "header":
        content[:100] = bytes(100)
    elif how == "middle":
        content[4096 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4096)
    path.write_bytes(content)
    if how == "another":
        path.unlink()
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE t (x)")
    with pytest.raises(MachineError, match="ML Metadata, which knows all runs") as error:
        list(preflight.check_metadata(tmp_path))
    with pytest.raises(MachineError, match=r"metadata.sqlite is damaged"):  # as all other verbs say it
        metadata.open_store(tmp_path, None)
    command = str(error.value).partition("model: ")[2].partition(". What")[0]
    assert subprocess.run(["sh", "-c", command], check=True).returncode == 0
    assert len(list(preflight.check_metadata(tmp_path))) == 1


def test_what_stands_in_the_place_of_the_records_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "last_run.json" / "mine").mkdir(parents=True)
    os.mkfifo(tmp_path / "last_run_settings.json")
    said = list(preflight.set_aside_records(tmp_path))
    assert len(said) == 2 and not (tmp_path / "last_run.json").exists()
    assert len(list(tmp_path.glob("last_run.json.*/last_run.json/mine"))) == 1
    assert list(preflight.set_aside_records(tmp_path)) == []


def test_run_folders_are_made(settings: Settings, tmp_path: Path) -> None:
    preflight.check_folders(settings, tmp_path / "new")
    assert run_dir(settings, tmp_path / "new").is_dir()
