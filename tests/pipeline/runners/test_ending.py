"""The end of a run: on every orchestrator the same, and never worse than what came before it."""

import json
import resource
from pathlib import Path

import jsonschema
import msgspec
import pytest

from core import checksums, settings
from core.artifacts.last_run import LAST_RUN, SETTINGS, Outcome, Stage
from core.errors import Cause
from pipeline.report import make
from pipeline.runners import ending
from pipeline.runners.ending import Execution, end_run, notify
from pipeline.runs import history, push_directory
from pipeline.runs.metadata import open_store
from pipeline.runs.monitor import Monitor
from pipeline.runs.run_summary import run_summary
from tests.conftest import ROOT
from tests.pipeline.report.report_run import NAME, write_run
from tests.small_model import write_model

DIGITS = settings.load(ROOT / "configs" / "digits.yaml", [f"name={NAME}", "push.keep=1"])
NODES = ["ImageExampleGen", "Trainer", "Pusher"]
STAGES = [Stage(node, 1.5, 1.0, cached=False) for node in NODES]


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    """The outcomes that a report was made of; the page itself has tests of its own."""
    made: list[Outcome] = []

    def make_report(folder: Path, name: str, outcome: Outcome, settings: object) -> Path:
        assert LAST_RUN.read(folder).status == outcome.status  # the record is there before the report
        made.append(outcome)
        return folder / "reports" / "page.html"

    monkeypatch.setattr(make, "make_report", make_report)
    return made


def pushed_run(root: Path) -> str:
    """A run that pushed version 17, beside an older one; returns its id."""
    run_id = write_run(root / NAME, "pushed").run_id
    for version in ("16", "17"):
        write_model(root / NAME / "serving" / version)
    assert run_id
    return run_id


def monitor(root: Path) -> Monitor:
    return Monitor(NAME, root / NAME, "now")


def ended(root: Path, run_id: str | None, **known: object) -> Outcome:
    return end_run(DIGITS, root, Execution(lambda: (83.0, 1234), monitor(root), run_id=run_id, nodes=NODES, **known))  # type: ignore[arg-type]


def test_a_run_that_pushed_is_recorded_and_its_oldest_versions_are_deleted(
    tmp_path: Path, report: list[Outcome]
) -> None:
    outcome = ended(tmp_path, pushed_run(tmp_path), stages=STAGES, log="run.log", notes=["a note"])

    home = tmp_path / NAME
    assert (outcome.status, outcome.exit_code) == ("pushed", 0)
    assert outcome.pushed_model == str(home / "serving" / "17")
    assert [Path(v).name for v in push_directory.versions(str(home / "serving"))] == ["17"]
    jsonschema.validate(json.loads((home / "last_run.json").read_text()), LAST_RUN.schema())
    assert LAST_RUN.read(home) == outcome and SETTINGS.read(home).settings["push"]["keep"] == 1
    assert (outcome.seconds, outcome.peak_rss_mb, outcome.log) == (83.0, 1234, "run.log")
    assert outcome.notes[0] == "a note" and outcome.report == str(home / "reports" / "page.html")
    assert [(stage.id, stage.seconds) for stage in outcome.stages] == [(node, 1.5) for node in NODES]
    (run,) = history.all_runs(open_store(home, None), NAME)
    assert (run.status, run.seconds) == ("pushed", 83.0) and run.settings and run.settings["push"]["keep"] == 1


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (make, "make_report"),
        (push_directory, "prune"),
        (checksums, "is_complete"),
        (history, "record"),
    ],
)
def test_what_fails_at_the_end_of_a_run_is_a_note_and_hides_no_push(
    tmp_path: Path, report: list[Outcome], monkeypatch: pytest.MonkeyPatch, module: object, function: str
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("the disk is full")

    run_id = pushed_run(tmp_path)
    monkeypatch.setattr(module, function, fail)
    outcome = ended(tmp_path, run_id)

    assert (outcome.status, outcome.exit_code) == ("pushed", 0)
    assert outcome.pushed_model == str(tmp_path / NAME / "serving" / "17")
    assert any("the disk is full; the log has the details" in note for note in outcome.notes)
    assert LAST_RUN.read(tmp_path / NAME) == outcome
    assert (outcome.report is None) is (function == "make_report")


@pytest.mark.parametrize(
    ("command", "note"),
    [
        ("cat > {told}", None),
        ("cat > {told}; echo no channel; exit 7", "notify: the command ended with exit code 7: no channel"),
        ("cat > {told}; sleep 60 & sleep 60", "notify: the command took more than 1 s, and was killed"),
        ("cp /dev/stdin {told}; kill -9 $$", "notify: the command ended with exit code -9: it said nothing"),
        ('cat > {told}; notify-us "it\'s" \'over "now"\'', "exit code 127: /bin/sh: 1: notify-us: not found"),
        ("cat > {told}; (sleep 60; echo late) & echo soon; exit 3", "exit code 3: soon"),
    ],
    ids=["told", "fails", "hangs", "dies", "unknown", "background"],
)
def test_what_becomes_of_the_command_that_is_notified_changes_no_outcome(
    command: str, note: str | None, tmp_path: Path, report: list[Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "_NOTIFY_SECONDS", 1)
    told = msgspec.structs.replace(DIGITS, notify=command.format(told=tmp_path / "told.json"))
    execution = Execution(lambda: (83.0, 1), monitor(tmp_path), run_id=pushed_run(tmp_path), nodes=NODES)
    outcome = end_run(told, tmp_path, execution)

    assert (outcome.status, outcome.exit_code) == ("pushed", 0)
    told_of = [one for one in outcome.notes if "notify" in one]
    assert len(told_of) == (note is not None) and all(one.endswith(str(note)) for one in told_of)
    assert LAST_RUN.read(tmp_path / NAME) == outcome
    document = json.loads((tmp_path / "told.json").read_text())
    assert (document["pipeline"], document["pushed_model"]) == (NAME, outcome.pushed_model)


def test_a_command_that_never_reads_is_no_harm(tmp_path: Path, report: list[Outcome]) -> None:
    assert notify(msgspec.structs.replace(DIGITS, notify="exit 0"), Outcome("pushed", 0, "x" * 200_000)) is None


def test_what_a_command_says_gives_no_webhook_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK", "https://hooks.example/T000/secret")
    told = msgspec.structs.replace(DIGITS, notify='echo "cannot reach $WEBHOOK"; exit 6')
    assert notify(told, Outcome("pushed", 0, "x")) == (
        "notify: the command ended with exit code 6: cannot reach ${env:WEBHOOK}"
    )


def test_a_command_that_says_without_end_fills_neither_disk_nor_memory(
    tmp_path: Path, report: list[Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "_NOTIFY_SECONDS", 1)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "full"))  # as where a full disk is what it should tell of
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = notify(msgspec.structs.replace(DIGITS, notify="exec yes"), Outcome("pushed", 0, "x"))
    assert said == "notify: the command took more than 1 s, and was killed"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_record_that_cannot_be_written_is_a_note_too(tmp_path: Path, report: list[Outcome]) -> None:
    run_id = pushed_run(tmp_path)
    (tmp_path / NAME / LAST_RUN.name).mkdir()

    outcome = ended(tmp_path, run_id)

    assert outcome.status == "pushed"
    assert any(note.startswith("the record could not be written: ") for note in outcome.notes)


def test_a_cached_push_of_a_version_that_was_rolled_back_says_what_serves(
    tmp_path: Path, report: list[Outcome]
) -> None:
    run_id = pushed_run(tmp_path)
    push_directory.rollback(str(tmp_path / NAME / "serving"))

    outcome = ended(tmp_path, run_id)

    assert outcome.status == "pushed" and outcome.pushed_model == str(tmp_path / NAME / "serving" / "16")
    assert any("version 17, which was rolled back since; what serves is " in note for note in outcome.notes)


def test_working_files_and_what_was_interrupted_go_with_the_run(tmp_path: Path, report: list[Outcome]) -> None:
    run_id = pushed_run(tmp_path)
    working = tmp_path / NAME / "artifacts" / "Transform" / ".system" / "stateful_working_dir"
    working.mkdir(parents=True)
    ended(tmp_path, run_id)
    assert not working.exists()


def test_a_refused_run_prunes_nothing(tmp_path: Path, report: list[Outcome]) -> None:
    pushed_run(tmp_path)

    outcome = ended(tmp_path, write_run(tmp_path / NAME, "refused").run_id)

    assert (outcome.status, outcome.exit_code, outcome.pushed_model) == ("refused", 3, None)
    assert len(push_directory.versions(str(tmp_path / NAME / "serving"))) == 2


def test_a_stage_that_failed_after_the_push_does_not_hide_it(tmp_path: Path, report: list[Outcome]) -> None:
    cause = Cause("ValueError: no images to show")

    outcome = ended(tmp_path, pushed_run(tmp_path), cause=cause, failed_stage="WorstMistakes")

    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert outcome.failures[0].message == "ValueError: no images to show"
    said = [line.text for line in run_summary(outcome, tmp_path)]
    assert said[0] == "failed: internal error" and f"  the model in service: {outcome.pushed_model}" in said


def test_a_run_that_failed_before_its_first_stage_has_a_record_too(tmp_path: Path, report: list[Outcome]) -> None:
    (tmp_path / NAME).mkdir()
    execution = Execution(lambda: (1.0, 10), monitor(tmp_path), cause=Cause("ZeroDivisionError: division by zero"))

    outcome = end_run(DIGITS, tmp_path, execution)

    assert (outcome.status, outcome.exit_code, outcome.run_id) == ("failed", 1, None)
    assert outcome.report is None and report == []  # which would take seconds to say what one line says
    assert [failure.message for failure in outcome.failures] == ["ZeroDivisionError: division by zero"]
    assert LAST_RUN.read(tmp_path / NAME) == outcome
