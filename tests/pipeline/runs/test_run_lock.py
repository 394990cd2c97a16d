"""One run at a time; what is temporary of it lies in one place, which goes with it."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from core.errors import InputError, MachineError
from pipeline.runs.run_lock import only_run, part_of_run
from tests.conftest import ROOT


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    said = r"another run is going on in .*runtime\.if_running=wait"
    with only_run(tmp_path), pytest.raises(InputError, match=said), only_run(tmp_path):
        pass
    with only_run(tmp_path):
        pass


def test_a_run_that_waits_for_another_says_so_once(tmp_path: Path) -> None:
    said: list[str] = []
    end = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        end.set()

    program = (
        "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / ".lock")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    threading.Thread(target=lambda: (end.wait(), holder.communicate("\n"))).start()
    with only_run(tmp_path, say):
        pass
    assert said == [f"another run is going on in {tmp_path}: waiting for its end"]


def test_while_an_orchestrators_tasks_work_no_run_begins(tmp_path: Path) -> None:
    said: list[str] = []
    with (
        part_of_run(tmp_path, said.append),
        part_of_run(tmp_path, said.append),
        pytest.raises(InputError, match="another run is going on"),
        only_run(tmp_path),
    ):
        pass
    with only_run(tmp_path):
        pass
    assert said == []


def test_temporary_files_go_with_the_run(tmp_path: Path) -> None:
    before = tempfile.gettempdir(), os.environ.get("TMPDIR")
    with only_run(tmp_path):
        inside = Path(tempfile.mkdtemp()).parent
        assert os.environ["TMPDIR"] == str(inside) != before[0]
        assert inside.stat().st_mode & 0o777 == 0o700
    assert not inside.exists()
    assert (tempfile.gettempdir(), os.environ.get("TMPDIR")) == before


def test_those_of_a_run_that_was_killed_go_with_the_next(tmp_path: Path) -> None:
    program = (
        "import os, sys, tempfile; from pathlib import Path; from pipeline.runs.run_lock import only_run\n"
        "with only_run(Path(sys.argv[1])): print(tempfile.mkdtemp(), flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    left = Path(killed.stdout.strip()).parent
    assert killed.returncode == -signal.SIGKILL and left.is_dir()
    with only_run(tmp_path):
        assert not left.exists()


def test_nothing_else_is_deleted_whatever_stands_there(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (tmp_path / ".lock").write_text(str(precious))
    with only_run(tmp_path):
        assert precious.is_dir()


def test_without_room_for_temporary_files_the_way_on_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(prefix: str) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with (
        pytest.raises(MachineError, match=r"found in \['/tmp'\]: make room in one of them, or name another"),
        only_run(tmp_path),
    ):
        pass
