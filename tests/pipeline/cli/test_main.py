"""What all verbs of the command line share: settings and their shorthands, user errors, exit codes, completion."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from core import settings
from core.errors import InputError
from core.settings import Settings
from pipeline.cli.main import main
from pipeline.runners import airflow, local
from pipeline.runs import metadata, run_lock
from tests.conftest import ROOT

LEAST = "name: birds\ndata: {images: photos}\n"


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "birds.yaml").write_text(LEAST)
    return str(tmp_path / "birds.yaml")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings of the runs that were begun; each ends with exit code 3."""
    begun: list[Settings] = []

    def run(settings: Settings, root: Path, stages: local.Stages) -> SimpleNamespace:
        assert stages == local.Stages()
        begun.append(settings)
        return SimpleNamespace(exit_code=3)

    monkeypatch.setattr(local, "run", run)
    return begun


def test_shorthands_and_overrides_reach_the_run_and_its_exit_code_the_shell(config: str, ran: list[Settings]) -> None:
    overrides = ["--set", 'card.owner="A = B" training.steps=3', "--set", "head.hidden_units=[64, 32]"]
    done = CliRunner().invoke(
        main, ["run", "--config", config, *overrides, "--data", "a b", "--weights", "random", "--root", "r"]
    )
    assert done.exit_code == 3
    (settings,) = ran
    assert (settings.card.owner, settings.training.steps, settings.head.hidden_units) == ("A = B", 3, (64, 32))
    assert (settings.data.images, settings.backbone.weights) == (str(Path.cwd() / "a b"), "random")


def test_some_stages_are_asked_for(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[local.Stages] = []

    def run(settings: Settings, root: Path, stages: local.Stages) -> SimpleNamespace:
        asked.append(stages)
        return SimpleNamespace(exit_code=0)

    monkeypatch.setattr(local, "run", run)
    for given in (["--from", "Evaluator", "--to", "Pusher"], ["--from", "Evaluator"], ["--to", "Pusher"]):
        assert CliRunner().invoke(main, ["run", "--config", config, *given]).exit_code == 0
    assert asked == [("Evaluator", "Pusher"), ("Evaluator", None), (None, "Pusher")]


def test_an_override_wins_over_a_shorthand(config: str, ran: list[Settings]) -> None:
    CliRunner().invoke(main, ["run", "--config", config, "--set", "data.images=mine", "--data", "theirs"])
    assert ran[0].data.images == str(Path.cwd() / "mine")


@pytest.mark.parametrize(("given", "trials"), [([], 20), (["--trials", "4"], 4), (["--set", "tuner.trials=7"], 7)])
def test_tune_searches_whatever_the_settings_say(
    given: list[str], trials: int, config: str, ran: list[Settings]
) -> None:
    CliRunner().invoke(main, ["tune", "--config", config, *given])
    assert ran[0].tuner is not None and ran[0].tuner.trials == trials


def test_settings_without_effect_are_noted_before_the_run(config: str, ran: list[Settings]) -> None:
    done = CliRunner().invoke(main, ["run", "--config", config, "--set", "head.hidden_units=[] head.dropout=0.5"])
    assert done.output == "note: head.dropout has no effect: head.hidden_units is []\n"
    assert len(ran) == 1


@pytest.mark.parametrize(
    "verb",
    [
        ["run"],
        ["tune"],
        ["find-lr"],
        ["predict", "image.jpg"],
        ["batch-predict", "--output", "out", "folder"],
        ["serve"],
        ["monitor", "folder"],
        ["report"],
        ["history"],
        ["compare", "a", "b"],
        ["prune"],
        ["rollback"],
        ["approve", "--version", "1", "--why", "x"],
        ["reject", "--version", "1", "--why", "x"],
        ["airflow"],
        ["kubeflow", "--target", "cluster", "--output", "x.yaml"],
    ],
    ids=lambda verb: verb[0],
)
def test_every_verb_refuses_bad_settings_with_exit_code_2(verb: list[str], config: str) -> None:
    name, *rest = verb
    done = CliRunner().invoke(main, [name, "--config", config, "--set", "training.batch_sise=3", *rest])
    assert done.exit_code == 2
    assert "error: SET: training.batch_sise: there is no such setting; did you mean" in done.output
    done = CliRunner().invoke(main, [name, "--config", "nothing.yaml", *rest])
    assert done.exit_code == 2 and "cannot read the settings nothing.yaml" in done.output


def test_what_a_verb_raises_later_is_an_error_of_the_user_too(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise InputError("no such folder")

    monkeypatch.setattr(airflow, "write_dag_file", refuse)
    done = CliRunner().invoke(main, ["airflow", "--config", config])
    assert (done.exit_code, done.output) == (2, "error: no such folder\n")


def test_what_the_machine_does_has_an_exit_code_of_its_own(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/b")

    monkeypatch.setattr(airflow, "write_dag_file", fail)
    done = CliRunner().invoke(main, ["airflow", "--config", config])
    assert (done.exit_code, done.output) == (4, "error: no space is left on the disk: /a/b\n")


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGTERM, "ended by SIGTERM\n"), (signal.SIGHUP, "ended by SIGHUP\n"), (signal.SIGINT, "")],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else "",
)
def test_who_is_told_to_end_deletes_what_is_temporary(
    number: signal.Signals, said: str, config: str, tmp_path: Path
) -> None:
    program = (
        "import os, sys, tempfile, time; from pipeline.cli.main import main; from pipeline.runners import airflow\n"
        "def wait(*_):\n"
        f"    with tempfile.TemporaryDirectory(dir={str(tmp_path)!r}, prefix='scratch'):\n"
        f"        os.kill(os.getpid(), {number.value}); time.sleep(60)\n"
        "airflow.write_dag_file = wait\n"
        f"main(['airflow', '--config', {config!r}])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + number, said)
    assert not list(tmp_path.glob("scratch*"))


def test_prune_waits_for_a_run_as_it_is_told(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "build" / settings.load(Path(config), []).name
    folder.mkdir(parents=True)
    metadata.connect(folder, None)
    monkeypatch.setattr(run_lock, "_ENDING_SECONDS", 0.0)
    prune = ["prune", "--config", config, "--root", str(tmp_path / "build")]
    with run_lock.only_run(folder):
        done = CliRunner().invoke(main, prune)
    assert done.exit_code == 2 and 'SET="runtime.if_running=wait"' in done.output
    with (folder / ".lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        threading.Timer(0.5, fcntl.flock, (held, fcntl.LOCK_UN)).start()
        done = CliRunner().invoke(main, [*prune, "--set", "runtime.if_running=wait"])
    assert done.exit_code == 0 and "waiting for its end" in done.output and "deleted 0 artifacts" in done.output


def test_a_folder_that_cannot_be_written_is_named(config: str) -> None:
    done = CliRunner().invoke(main, ["history", "--config", config, "--root", "/sys/nothing"])
    assert done.exit_code == 2 and "Traceback" not in done.output
    done = CliRunner().invoke(main, ["run", "--config", config, "--root", "/sys/nothing"])
    assert done.exit_code == 2 and done.output.startswith("error: /sys/")


def completed(*words: str) -> list[str]:
    """As bash asks for it."""
    environment = {
        **os.environ,
        "_IMAGE_CLASSIFIER_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["image-classifier", *words]),
        "COMP_CWORD": str(len(words)),
    }
    script = "from pipeline.cli.main import main; main(prog_name='image-classifier')"
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True)
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_a_shell_completes_verbs_and_paths_of_settings() -> None:
    assert completed("batch") == ["batch-predict"]
    assert completed("run", "--set", "head.d") == ["head.dropout="]
