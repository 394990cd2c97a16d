"""Ends a program at its first, second, third … file operation until it completes, and checks what is left each time.

After SQLite's crash tests and etcd's failpoints. `python -m tests.failpoints [SCENARIO...]` runs them all, or those
named, and prints how many operations each has.

A scenario prepares a folder, acts on it, and says what must hold at any moment. For each operation, the folder is made
again, a fork acts and ends before that operation (`os._exit`: nothing is cleaned up, no buffer is written), what must
hold is checked, and the same action is repeated, which must complete without manual repair. There are two ways to end:

- `kill`: what was written stays, as after `kill -9`;
- `power`: only half of each file that was written but not synced is left, as after a power loss; if there are several,
  the one written last reached the disk before the others.

Operations are Python's that change a file system (reported by audit hooks), `fsync`, Linux's `renameat2`, and
TensorFlow's own (`tf.io.gfile`).
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from unittest import mock

import numpy as np
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem
from tensorflow.python.lib.io import _pywrap_file_io

from components.serving.push import push
from core import atomic_io, checksums
from core.artifacts.last_run import LAST_RUN, SETTINGS, Outcome
from core.artifacts.provenance import Origin
from core.artifacts.pushed_model import MODEL_CARD, ROLLED_BACK, numbered
from core.settings.push import CardSettings
from pipeline.report import make
from pipeline.runners.ending import record
from pipeline.runs import push_directory
from pipeline.schema import keep
from tests.small_model import flip, write_model, write_versions
from trainer.arguments import FnArgs
from trainer.training import checkpoints
from trainer.training.resume import resume

Mode = Literal["kill", "power"]

_CRASHED = 86
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.truncate", "os.chmod")
_GFILE = (
    "CreateDir",
    "RecursivelyCreateDir",
    "RenameFile",
    "DeleteFile",
    "DeleteRecursively",
    "CopyFile",
    "WritableFile",
)


class Scenario:
    """What is done, and what must hold. All methods except `check` run in processes of their own."""

    modes: tuple[Mode, ...] = ("kill", "power")

    def prepare(self, folder: Path) -> None:
        """Makes the initial state."""

    def act(self, folder: Path) -> None:
        """Does what will be interrupted; called again after the interruption."""
        raise NotImplementedError

    def check(self, folder: Path) -> None:
        """Asserts what must hold whenever the action is interrupted."""

    def check_end(self, folder: Path) -> None:
        """Asserts what must hold after the action was repeated."""


class _Crash:
    """Counts operations below a folder, and ends the process at one of them."""

    def __init__(self, folder: Path, at: int, mode: Mode) -> None:
        self._folder, self._at, self._mode, self._count = str(folder), at, mode, 0
        self._synced = {path.stat().st_ino: path.stat().st_mtime_ns for path in _regular_files(folder)}
        self._in_hook = False
        self._sync = os.fsync
        sys.addaudithook(self._hear)
        os.fsync = self._fsync
        for name in _GFILE:
            setattr(_pywrap_file_io, name, self._counted(getattr(_pywrap_file_io, name)))

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | Path) and isinstance(flags, int) and flags & _WRITES:
                self._operation(path)
        elif event == "ctypes.dlsym" and arguments[1] == "renameat2":
            self._operation(self._folder)
        elif event in _CHANGES:
            self._operation(arguments[0])

    def _fsync(self, descriptor: int) -> None:
        self._operation(self._folder)
        self._sync(descriptor)
        found = os.fstat(descriptor)
        self._synced[found.st_ino] = found.st_mtime_ns

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(path: Any, *arguments: Any) -> Any:
            self._operation(path)
            return function(path, *arguments)

        return counted

    def _operation(self, path: Any) -> None:
        text = os.fsdecode(path).removeprefix("file://")
        if self._in_hook or (text.startswith("/") and not text.startswith(self._folder)):
            return
        self._count += 1
        if self._count < self._at:
            return
        self.lose()
        os._exit(_CRASHED)

    def lose(self) -> None:
        """What happens at the end, also of a program that completed."""
        self._in_hook = True
        unsynced = [file for file in _regular_files(Path(self._folder)) if not self._is_synced(file)]
        unsynced.sort(key=lambda file: file.stat().st_mtime_ns)
        if self._mode == "kill":
            return
        for file in unsynced[:-1] or unsynced:
            os.truncate(file, file.stat().st_size // 2)

    def _is_synced(self, file: Path) -> bool:
        return self._synced.get(file.stat().st_ino) == file.stat().st_mtime_ns


def _regular_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def _fork(action: Callable[[], object]) -> int:
    """Runs a function in a process of its own; returns the exit code."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextlib.contextmanager
def _sandbox() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="failpoints-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def run(scenario: Scenario, mode: Mode) -> int:
    """Interrupts the scenario's action at each operation; returns how many there are."""
    with _sandbox() as original:
        assert _fork(lambda: scenario.prepare(original / "x")) == 0
        for at in range(1, 10_000):
            with _sandbox() as parent:
                folder = parent / "x"
                shutil.copytree(original / "x", folder, symlinks=True)

                def crash(folder: Path = folder, at: int = at) -> None:
                    end = _Crash(folder, at, mode)
                    scenario.act(folder)
                    end.lose()

                code = _fork(crash)
                assert code in (0, _CRASHED), f"operation {at} ended with {code}"
                try:
                    scenario.check(folder)
                    assert _fork(lambda: scenario.act(folder)) == 0, "it could not be done again"  # noqa: B023
                    scenario.check(folder)
                    scenario.check_end(folder)
                except AssertionError as error:
                    raise AssertionError(f"{mode} at operation {at}: {error}") from error
            if code == 0:
                return at - 1
    raise AssertionError("it does not end")


def _good(version: str | Path) -> bool:
    with contextlib.suppress(OSError):
        return bool(checksums.verify(str(version)))
    return False


class Push(Scenario):
    """A model is pushed next to a version in service: what has a number is complete, and no model is pushed twice."""

    scheme = ""

    def prepare(self, folder: Path) -> None:
        write_versions(folder / "serving", 1)
        write_model(folder / "model", "new")

    def act(self, folder: Path) -> None:
        push(str(folder / "model"), f"{self.scheme}{folder}/serving", CardSettings(), Origin({}, ""))

    def _versions(self, folder: Path) -> list[Path]:
        return [Path(version.path) for version in numbered(str(folder / "serving"))]

    def check(self, folder: Path) -> None:
        assert self._versions(folder)[0].name == "1" and all(map(_good, self._versions(folder)))

    def check_end(self, folder: Path) -> None:
        _, new = self._versions(folder)
        assert checksums.listed(str(new)) == checksums.listed(str(folder / "model"))
        assert {path.name for path in (folder / "serving").iterdir()} == {".lock", "1", new.name}


class _Disk(LocalFileSystem):
    """The disk as a remote Beam file system."""

    @classmethod
    def scheme(cls) -> str:
        return "disk"

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for path in _regular_files(Path(dir_or_prefix.removeprefix("disk://"))):
            yield FileMetadata(f"disk://{path}", path.stat().st_size)

    def create(self, path: str, *_: object, **__: object) -> Any:
        file = Path(path.removeprefix("disk://"))
        file.parent.mkdir(parents=True, exist_ok=True)
        return _Whole(file)

    def open(self, path: str, *_: object, **__: object) -> Any:
        return Path(path.removeprefix("disk://")).open("rb")

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            Path(path.removeprefix("disk://")).unlink()


class _Whole(io.BytesIO):
    """A file that appears when it is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            self._path.write_bytes(self.getvalue())
        super().close()


class PushRemote(Push):
    """The same on a remote file system, where leftovers that no server mistakes for a version are allowed."""

    scheme = "disk://"
    modes = ("kill",)

    def _versions(self, folder: Path) -> list[Path]:
        return [path for path in super()._versions(folder) if (path / "saved_model.pb").exists()]

    def check_end(self, folder: Path) -> None:
        _, new = self._versions(folder)
        assert checksums.listed(str(new)) == checksums.listed(str(folder / "model"))


class Prune(Scenario):
    """Old and damaged versions are deleted: what has a number is as it was, and the newest good one is there."""

    def prepare(self, folder: Path) -> None:
        write_versions(folder / "serving", 1, 2, 4, 5)
        flip(write_versions(folder / "serving", 3)[0])
        write_model(folder / "elsewhere")
        (folder / "serving" / "0").symlink_to("../elsewhere")

    def act(self, folder: Path) -> None:
        push_directory.prune(str(folder / "serving"), keep=2)

    def check(self, folder: Path) -> None:
        there = {version.number: _good(version.path) for version in numbered(str(folder / "serving"))}
        assert there[5] and there[4] and not there.pop(3, False) and all(there.values())
        assert _good(folder / "elsewhere")

    def check_end(self, folder: Path) -> None:
        assert {path.name for path in (folder / "serving").iterdir()} == {".lock", "4", "5"}


class Rollback(Scenario):
    """The newest version is taken out of service, and a damaged one before it: what serves is good, nothing is lost."""

    def prepare(self, folder: Path) -> None:
        write_versions(folder / "serving", 1, 3)
        flip(write_versions(folder / "serving", 2)[0])

    def act(self, folder: Path) -> None:
        if (folder / "serving" / "3").exists():
            push_directory.rollback(str(folder / "serving"))

    def check(self, folder: Path) -> None:
        serving = folder / "serving"
        assert _good(serving / "1")
        assert _good(serving / "3") != _good(serving / ROLLED_BACK / "3")
        assert (serving / "2").exists() != (serving / ROLLED_BACK / "2").exists()

    def check_end(self, folder: Path) -> None:
        assert [Path(version).name for version in push_directory.versions(str(folder / "serving"))] == ["1"]


class Export(Scenario):
    """A folder replaces another, as an export, a backbone and the digits do: the old one or the new one, complete."""

    def prepare(self, folder: Path) -> None:
        write_model(folder / "model", "old")

    def act(self, folder: Path) -> None:
        with atomic_io.staging_directory(str(folder / "model")) as unfinished:
            write_model(Path(unfinished), "new")
            atomic_io.publish(unfinished, str(folder / "model"))

    def check(self, folder: Path) -> None:
        assert _good(folder / "model")

    def check_end(self, folder: Path) -> None:
        assert (folder / "model" / "saved_model.pb").read_text().endswith("new")
        assert [path.name for path in folder.iterdir()] == ["model"]


class FirstExport(Export):
    """The same if there was none before."""

    def prepare(self, folder: Path) -> None:
        folder.mkdir()

    def check(self, folder: Path) -> None:
        assert _good(folder / "model") or not (folder / "model").exists()


class Record(Scenario):
    """The record of a run and its settings are replaced: both are readable, the old ones or the new ones."""

    def prepare(self, folder: Path) -> None:
        folder.mkdir()
        self._write(folder, "old")

    def act(self, folder: Path) -> None:
        self._write(folder, "new")

    def _write(self, folder: Path, name: str) -> None:
        record(folder, {"name": name}, Outcome("pushed", 0, name))

    def check(self, folder: Path) -> None:
        assert LAST_RUN.read(folder).pipeline_root in ("old", "new")
        assert SETTINGS.read(folder).settings["name"] in ("old", "new")

    def check_end(self, folder: Path) -> None:
        assert LAST_RUN.read(folder).pipeline_root == SETTINGS.read(folder).settings["name"] == "new"
        assert {path.name for path in folder.iterdir()} == {LAST_RUN.name, SETTINGS.name}


class Schema(Scenario):
    """An inferred schema is kept: it is complete or absent."""

    _TEXT = "feature { name: 'label' }\n" * 50

    def prepare(self, folder: Path) -> None:
        folder.mkdir()

    def act(self, folder: Path) -> None:
        with contextlib.suppress(FileExistsError):
            keep(folder / "schema.pbtxt", self._TEXT)

    def check(self, folder: Path) -> None:
        path = folder / "schema.pbtxt"
        assert not path.exists() or path.read_text() == self._TEXT

    def check_end(self, folder: Path) -> None:
        assert [path.name for path in folder.iterdir()] == ["schema.pbtxt"]


class Report(Scenario):
    """A report is written, its version gets a model card, the oldest page is deleted: pages and card are complete."""

    def prepare(self, folder: Path) -> None:
        (folder / "reports").mkdir(parents=True)
        for number in range(50):
            (folder / "reports" / f"{number:02}.html").write_text("page")
        write_versions(folder / "serving", 1)

    def act(self, folder: Path) -> None:
        data = SimpleNamespace(pushed=str(folder / "serving" / "1"))
        with (
            mock.patch.object(make, "collect", lambda *_: data),
            mock.patch.object(make, "render", lambda _: "new page"),
            mock.patch.object(make, "model_card", lambda *_: "card"),
        ):
            make.make_report(folder, "tests", Outcome("pushed", 0, "/", run_id="new"), {})

    def check(self, folder: Path) -> None:
        assert {path.read_text() for path in (folder / "reports").glob("*.html")} <= {"page", "new page"}
        assert _good(folder / "serving" / "1")
        card = folder / "serving" / "1" / MODEL_CARD
        assert not card.exists() or card.read_text() == "card"

    def check_end(self, folder: Path) -> None:
        assert len([*(folder / "reports").iterdir()]) == 50 and (folder / "serving" / "1" / MODEL_CARD).exists()


class Resumption(Scenario):
    """A training resumes from a killed one, and is killed itself: the next one resumes at the same step."""

    def prepare(self, folder: Path) -> None:
        (folder / "1").mkdir(parents=True)
        self._resume(folder / "1")
        values = {"global_step": np.int64(60), "head/kernel": np.ones([100, 10], np.float32)}
        checkpoints.write(str(folder / "1" / "model.ckpt-60"), values)
        (folder / "1" / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-60"\n')

    def act(self, folder: Path) -> None:
        step = self._resume(folder / str(len([*folder.iterdir()]) + 1))
        assert step == 60, f"resumed at {step}"

    def _resume(self, own: Path) -> int:
        return resume(FnArgs(["train"], ["eval"], "graph", "base", model_run_dir=str(own)))


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario()
    for scenario in (
        Push, PushRemote, Prune, Rollback, Export, FirstExport, Record, Schema, Report, Resumption,
    )
}  # fmt: skip


def main(names: list[str]) -> None:
    """Runs scenarios, and prints a line for each and mode: its operations, and the CPU seconds that it took.

    With `--quick`, runs only the worse mode, as `make test` does.
    """
    quick = "--quick" in names
    for name in [name for name in names if name != "--quick"] or SCENARIOS:
        for mode in SCENARIOS[name].modes[-1 if quick else 0 :]:
            began = sum(os.times()[:4])
            count = run(SCENARIOS[name], mode)
            print(f"{name} {mode} {count} operations {sum(os.times()[:4]) - began:.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
