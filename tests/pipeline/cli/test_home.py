import getpass
import os
import pwd
import stat
import tempfile
from pathlib import Path

import pytest

from pipeline.cli.home import ensure_home


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process of an id that no list of users has; returns the folder for temporary files."""

    def unknown(_: int) -> None:
        raise KeyError

    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")  # is restored after the test
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_process_without_a_home_gets_one_and_keeps_it(nobody: Path) -> None:
    ensure_home()
    home = Path.home()
    assert home.parent == nobody and stat.S_IMODE(home.stat().st_mode) == 0o700
    assert getpass.getuser() == str(os.getuid())
    del os.environ["HOME"]
    ensure_home()
    assert Path.home() == home


def test_a_home_that_is_not_there_is_none(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    ensure_home()
    assert Path.home().parent == nobody


def test_a_folder_that_another_made_is_not_taken(nobody: Path) -> None:
    (nobody / "theirs").mkdir()
    (nobody / f"image-classifier-{os.getuid()}").symlink_to(nobody / "theirs")
    ensure_home()
    assert Path.home().parent == nobody and not Path.home().is_symlink()


def test_a_home_that_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USER", "jo")
    ensure_home()
    assert (os.environ["HOME"], os.environ["USER"]) == (str(tmp_path), "jo")
