"""The commands of a cluster's containers; whole workflows run in tests/ports/test_kubeflow.py."""

from __future__ import annotations

import importlib
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from core import atomic_io, settings
from core.artifacts.heartbeat import HEARTBEAT
from core.artifacts.last_run import LAST_RUN, SETTINGS
from core.errors import InputError, MachineError
from pipeline.runners import pods
from tests.components.ram_files import ram  # noqa: F401 - a fixture
from tests.conftest import ROOT

WIRING = {"First": {}, "Second": {"read": ["First", "made"]}}
DOES_WELL = """
from core import progress
progress.report(3, 7, "images")
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python imports from, which is the current one."""
    monkeypatch.syspath_prepend(tmp_path / "modules")
    (tmp_path / "modules").mkdir()
    monkeypatch.chdir(tmp_path / "modules")
    return tmp_path / "modules"


@pytest.fixture
def root(modules: Path) -> str:
    return str(modules.parent / "root")


def stage(root: str, name: str, program: str, *arguments: str, run: str = "run-1") -> None:
    """Runs a program as TFX's entry point."""
    module = f"entry_{name.lower()}"
    Path(f"{module}.py").write_text(program)
    importlib.invalidate_caches()
    pods.main(["stage", "--root", root, "--run", run, "--name", "digits", "--stage", name, module, *arguments])


def end(root: str, *how: str) -> dict[str, Any]:
    """Ends the run, and returns what was notified of."""
    told = Path("told.json").resolve()
    loaded = settings.load(ROOT / "configs" / "digits.yaml", [f"notify='cat > {shlex.quote(str(told))}'"])
    known = ["--settings", json.dumps(settings.to_dict(loaded)), "--stages", json.dumps(WIRING)]
    pods.main(["end", "--root", root, "--run", "run-1", *known, *how])
    return json.loads(told.read_text())


def vertex(state: str) -> tuple[str, str]:
    return "--executor_input", json.dumps({"inputs": {"parameterValues": {"status": json.dumps({"state": state})}}})


def argo(*failures: dict[str, str]) -> tuple[str, ...]:
    """As Argo puts it into a container's arguments."""
    return "--status", "Failed", "--failures", json.dumps(json.dumps(failures))


def test_while_stages_run_the_pipelines_folder_says_which_and_how_far(root: str) -> None:
    stage(root, "First", DOES_WELL)
    with pytest.raises(MachineError):
        stage(root, "Second", f"{DOES_WELL}\nfrom core.errors import MachineError\nraise MachineError('no disk')")
    beat = HEARTBEAT.read(root)
    assert (beat.run, beat.status) == ("run-1", "running")
    assert {name: at.state for name, at in beat.stages.items()} == {"First": "ended", "Second": "failed"}
    assert 'stage_running{pipeline="digits",stage="First"} 0.0' in Path(root, "digits.prom").read_text()


def test_a_run_of_pods_works_in_a_bucket(ram: str, modules: Path) -> None:  # noqa: F811
    root = f"{ram}/runs/digits"
    stage(root, "First", DOES_WELL)
    with pytest.raises(InputError):
        stage(root, "Second", "from core.errors import InputError\nraise InputError('red.jpg has no label')")
    assert {name: at.state for name, at in HEARTBEAT.read(root).stages.items()} == {
        "First": "ended",
        "Second": "failed",
    }
    told = end(root, *vertex("FAILED"))
    last = LAST_RUN.read(root)
    assert last.failures[0].message == told["failures"][0]["message"] == "red.jpg has no label"
    assert [note for note in last.notes if "could not" in note or "monitoring" in note] == []
    assert 'run_status{pipeline="digits",status="failed"} 1.0' in atomic_io.read_text(f"{root}/digits.prom")
    assert not tf.io.gfile.exists(f"{root}/.running/run-1")


def test_what_vertex_ai_took_from_its_cache_is_known_by_what_read_it(root: str, modules: Path) -> None:
    (modules / "report.json").write_text("{}")
    read = {"artifacts": [{"uri": "gs://earlier", "metadata": {"found": 3}}]}
    call = {"inputs": {"artifacts": {"read": read}}, "outputs": {"outputFile": str(modules / "report.json")}}
    stage(root, "Second", DOES_WELL, "--json_serialized_invocation_args", json.dumps(call))
    told = end(root, *vertex("SUCCEEDED"))
    assert told["status"] == "finished" and [one["id"] for one in told["stages"]] == ["Second"]


def test_runs_at_the_same_time_do_not_mix(root: str) -> None:
    stage(root, "First", DOES_WELL)
    stage(root, "Second", DOES_WELL, run="run-2")
    assert set(HEARTBEAT.read(root).stages) == {"Second"}
    end(root, *vertex("SUCCEEDED"))
    assert [path.name for path in Path(root, ".running").iterdir()] == ["run-2"]


@pytest.mark.parametrize("how", [vertex("FAILED"), argo({"displayName": "second", "message": "Error (exit code 1)"})])
def test_a_stage_that_failed_is_told_of_in_its_own_words(root: str, how: tuple[str, ...]) -> None:
    stage(root, "First", DOES_WELL)
    with pytest.raises(InputError):
        stage(root, "Second", "from core.errors import InputError\nraise InputError('red.jpg has no label')")
    told = end(root, *how)
    assert (told["pipeline"], told["status"], told["exit_code"]) == ("digits", "failed", 2)
    assert (told["failures"][0]["stage"], told["failures"][0]["message"]) == ("Second", "red.jpg has no label")
    last = LAST_RUN.read(root)
    assert (last.status, last.run_id) == ("failed", "run-1") and [one.id for one in last.stages] == ["First", "Second"]
    assert SETTINGS.read(root).settings["name"] == "digits"
    beat = HEARTBEAT.read(root)
    assert (beat.status, beat.exit_code, beat.stages["Second"].state) == ("failed", 2, "failed")
    assert not any(Path(root, ".running").iterdir())


def test_a_secret_in_an_error_is_not_told(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3", "hunter22")
    Path("entry_first.py").write_text("raise ValueError('the key hunter22 is wrong')")
    known = ["--root", root, "--run", "run-1", "--name", "digits", "--stage", "First"]
    with pytest.raises(ValueError, match="hunter22"):
        pods.main(["stage", *known, "--secret=S3", "entry_first"])
    told = end(root, *vertex("FAILED"))
    assert told["failures"][0]["message"] == "ValueError: the key ${env:S3} is wrong"


def test_a_pod_that_was_killed_is_told_of_in_argos_words(root: str) -> None:
    stage(root, "First", DOES_WELL)
    said = {"displayName": "second(1)", "message": "OOMKilled (exit code 137)", "phase": "Failed"}
    told = end(root, *argo({"displayName": "digits-abc", "phase": "Failed"}, said))
    assert (told["status"], told["exit_code"]) == ("failed", 4)
    assert told["failures"][0]["message"] == "Second: OOMKilled (exit code 137)"
    assert any("ML Metadata could not be reached" in note for note in told["notes"])


def test_a_stage_that_was_tried_again_with_success_is_no_failure(root: str) -> None:
    with pytest.raises(MachineError):
        stage(root, "First", "from core.errors import MachineError\nraise MachineError('no disk')")
    stage(root, "First", DOES_WELL)
    stage(root, "Second", DOES_WELL)
    told = end(root, *vertex("SUCCEEDED"))
    assert told["status"] == "finished"  # there is no Pusher among these stages
    assert told["failures"] == []


def test_a_stage_ends_as_it_would_where_nothing_can_be_kept(root: str) -> None:
    Path(root).write_text("a file")
    stage(root, "First", DOES_WELL)
    with pytest.raises(InputError, match="red"):
        stage(root, "Second", "from core.errors import InputError\nraise InputError('red')")
