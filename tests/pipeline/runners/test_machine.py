"""Memory and GPUs of machines that are made of files here."""

import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.runners import machine

GB = 2**30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GB free, in no container."""
    monkeypatch.setattr(machine, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_GPUS", (str(tmp_path / "nvidia0"),))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    write(tmp_path / "proc/meminfo", f"MemTotal: 1 kB\nMemAvailable: {8 * GB // 1024} kB\n")
    write(tmp_path / "proc/self/cgroup", "0::/\n")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_machine_with_enough_says_nothing(system: Path) -> None:
    write(system / "cgroup/memory.max", "max\n")
    assert machine.available_mb() == 8 * 1024
    assert list(machine.notes_on_memory()) == []


@pytest.mark.parametrize(("free", "at_once"), [(8, 2), (3, 1)])
def test_two_stages_run_at_once_where_there_is_memory_for_both(system: Path, free: int, at_once: int) -> None:
    write(system / "proc/meminfo", f"MemAvailable: {free * GB // 1024} kB\n")
    assert machine.stages_at_once() == at_once


def test_what_a_container_leaves_counts(system: Path) -> None:
    write(system / "cgroup/memory.max", f"{2 * GB}\n")
    write(system / "cgroup/memory.current", f"{GB}\n")
    write(system / "cgroup/memory.stat", f"anon 1\ninactive_file {GB // 2}\n")
    assert machine.available_mb() == 1536
    (note,) = machine.notes_on_memory()
    assert note.startswith("1,536 MB of memory are free for this run, and even one with small images takes ")


@pytest.mark.parametrize("place", ["memory/pods/7", "memory/pods", "memory"])
def test_the_groups_of_version_1_count_and_those_above(place: str, system: Path) -> None:
    write(system / "proc/self/cgroup", "9:cpu:/other\n4:memory:/pods/7\n0::/\n")
    write(system / "cgroup" / place / "memory.limit_in_bytes", f"{3 * GB}\n")
    write(system / "cgroup" / place / "memory.usage_in_bytes", f"{GB}\n")
    write(system / "cgroup" / place / "memory.stat", "cache 5\n")
    assert machine.available_mb() == 2048


def test_a_limit_of_the_shell_counts(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (GB, GB))
    assert machine.available_mb() == 1024


def test_a_system_without_proc_says_nothing(system: Path) -> None:
    (system / "proc/meminfo").unlink()
    assert list(machine.notes_on_memory()) == []


@pytest.mark.parametrize(
    ("present", "used", "visible", "said"),
    [(True, [], None, True), (True, ["GPU:0"], None, False), (True, [], "-1", False), (False, [], None, False)],
)
def test_a_gpu_that_lies_idle_is_said(
    present: bool, used: list[str], visible: str | None, said: bool, system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SimpleNamespace(list_physical_devices=lambda _: used)
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(config=config))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if present:
        (system / "nvidia0").touch()
    assert bool(machine.notes_on_gpu()) is said
