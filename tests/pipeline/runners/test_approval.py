"""What people decide about a model that waits: it serves or goes, and everything that knows of it says so."""

import json
import shlex
import sys
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from components.serving.push import push
from core import checksums, settings
from core.artifacts.blessing import REJECTED
from core.artifacts.heartbeat import HEARTBEAT
from core.artifacts.last_run import LAST_RUN, Outcome
from core.artifacts.provenance import Origin
from core.artifacts.pushed_model import DECISION, MODEL_CARD
from core.settings.push import CardSettings
from pipeline.cli.main import main
from pipeline.runners.ending import Execution, end_run, record
from pipeline.runs import history, metadata, run_lock
from pipeline.runs.metadata import open_store
from pipeline.runs.monitor import Monitor
from tests.components.ram_files import ram  # noqa: F401 - a fixture
from tests.conftest import ROOT
from tests.pipeline.report.report_run import NAME, write_run
from tests.small_model import flip, write_model

CONFIG = str(ROOT / "configs" / "digits.yaml")


def leave_waiting(tmp_path: Path) -> Path:
    """A run, whose end is recorded, leaves a version for people to decide about."""
    load = settings.load(Path(CONFIG), [f"name={NAME}", "push.approval=required"])
    run_id = write_run(tmp_path / NAME, "waiting").run_id
    version = write_model(tmp_path / NAME / "serving" / ".waiting" / "17")
    execution = Execution(lambda: (1.0, 1), Monitor(NAME, tmp_path / NAME, "now"), run_id=run_id, nodes=["Pusher"])
    outcome = end_run(load, tmp_path, execution)
    assert (outcome.status, outcome.exit_code, outcome.waiting) == ("waiting", 0, str(version))
    assert "| approval | required; nobody has decided yet |" in (version / MODEL_CARD).read_text()
    assert Path(str(outcome.report)).read_text().count("Nothing is pushed before it is approved") == 1
    return version


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    return leave_waiting(tmp_path)


@pytest.fixture(scope="module")
def undecided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that stays, whatever is tried."""
    return leave_waiting(tmp_path_factory.mktemp("undecided"))


def decide(verb: str, waiting: Path, *options: str) -> Result:
    root = waiting.parents[3]
    told = shlex.quote(str(root / "told.json"))
    given = ["--config", CONFIG, "--root", str(root), "--set", f"name={NAME}", "--set", f"notify='cat > {told}'"]
    return CliRunner().invoke(main, [verb, *given, *(options or ("--version", "17", "--why", "because | of it"))])


def recorded(waiting: Path) -> list[Outcome]:
    """The outcome as the run's record has it, what was notified of, and as far as it goes the history's."""
    home = waiting.parents[2]
    told = json.loads((home.parent / "told.json").read_text())
    assert told["pipeline"] == NAME
    jsonschema.validate({k: v for k, v in told.items() if k != "pipeline"} | {"schema_version": 1}, LAST_RUN.schema())
    last = LAST_RUN.read(home)
    assert (told["status"], told["exit_code"]) == (last.status, last.exit_code)
    (run,) = history.all_runs(open_store(home, None), NAME)
    assert run.status == last.status
    return [last]


def test_an_approved_model_serves_and_all_that_knows_of_it_says_who_approved(waiting: Path) -> None:
    done = decide("approve", waiting, "--version", "17", "--why", "because | of it", "--by", "Jo\nDoe")
    serving = waiting.parents[1] / "17"
    assert (done.exit_code, done.output) == (0, f"now serving {serving}\n")
    assert checksums.verify(str(serving)) and not waiting.exists()
    decision = DECISION.read(serving)
    assert (decision.decision, decision.by, decision.why) == ("approved", "Jo Doe", "because | of it")

    (last,) = recorded(waiting)
    assert (last.status, last.exit_code, last.pushed_model, last.waiting) == ("pushed", 0, str(serving), None)
    assert last.approval == decision
    (run,) = history.all_runs(open_store(waiting.parents[2], None), NAME)
    assert run.version == "17"
    assert "| approval | approved by Jo Doe on " in (serving / MODEL_CARD).read_text()
    assert "because \\| of it |" in (serving / MODEL_CARD).read_text()
    assert "The model was <bdi>approved by Jo Doe" in Path(str(last.report)).read_text()
    assert 'status="pushed"} 1.0' in (waiting.parents[2] / f"{NAME}.prom").read_text()


def test_a_rejected_model_is_gone_and_no_later_one_is_compared_with_it(waiting: Path) -> None:
    done = decide("reject", waiting)
    kept = waiting.parents[1] / ".rejected" / "17"
    assert done.exit_code == 0 and done.output.startswith("rejected: version 17 is deleted")
    assert not waiting.exists() and DECISION.read(kept).decision == "rejected"

    (last,) = recorded(waiting)
    assert (last.status, last.exit_code, last.pushed_model, last.inputs) == ("refused", 3, None, None)
    assert last.failures[-1].stage == "Pusher" and last.failures[-1].message.endswith(f"delete {kept} and run again")
    assert "The model passed the gate, and was rejected by" in Path(str(last.report)).read_text()
    (blessing,) = (
        artifact
        for artifact in open_store(waiting.parents[2], None).get_artifacts()
        if artifact.uri.split("/")[-3:-1] == ["ModelGate", "blessing"]
    )
    assert blessing.custom_properties[REJECTED].int_value == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--version", "16", "--why", "x"], "no version 16 waits for approval"),
        (["--version", "17", "--why", " "], 'say why, for those who come after: WHY="…"'),
        (["--version", "17"], "Missing option '--why'"),
    ],
)
def test_a_decision_needs_a_version_that_waits_and_a_reason(options: list[str], said: str, undecided: Path) -> None:
    for verb in ("approve", "reject"):
        done = decide(verb, undecided, *options)
        assert done.exit_code == 2 and said in done.output
    assert LAST_RUN.read(undecided.parents[2]).status == "waiting" and undecided.exists()


def test_nothing_is_decided_while_a_run_goes_on(undecided: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "_ENDING_SECONDS", 0.0)
    with run_lock.only_run(undecided.parents[2]):
        done = decide("approve", undecided)
    assert done.exit_code == 2 and "another run is going on" in done.output and undecided.exists()


def test_a_damaged_model_is_not_put_into_service(undecided: Path) -> None:
    flip(undecided)
    done = decide("approve", undecided)
    assert done.exit_code == 4 and "is damaged" in done.output and undecided.exists()
    assert LAST_RUN.read(undecided.parents[2]).status == "waiting"


@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_what_was_decided_when_the_process_was_killed_is_recorded_by_deciding_again(
    verb: str, waiting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(metadata, "exists", lambda *_: sys.exit(9))  # before anything but the push directory knows
        assert decide(verb, waiting, "--version", "17", "--why", "first", "--by", "jo").exit_code == 9
    assert LAST_RUN.read(waiting.parents[2]).status == "waiting" and not waiting.exists()

    done = decide("approve", waiting, "--version", "17", "--why", "second")
    word = "approved" if verb == "approve" else "rejected"
    assert done.exit_code == 0 and f"version 17 was {word} by jo on " in done.output, done.output
    assert done.output.endswith("UTC: first; now that is recorded\n")
    (last,) = recorded(waiting)
    assert last.approval and (last.approval.decision, last.approval.by, last.approval.why) == (word, "jo", "first")
    assert last.status == ("pushed" if verb == "approve" else "refused")
    store = open_store(waiting.parents[2], None)
    marked = [one for one in store.get_artifacts() if one.custom_properties[REJECTED].int_value]
    assert len(marked) == (0 if verb == "approve" else 1)

    done = decide("reject", waiting, "--version", "17", "--why", "third")
    assert done.exit_code == 2 and "UTC: first. Nothing is left to decide" in done.output
    assert ("`make rollback`" in done.output) is (verb == "approve")


def test_a_killed_decision_that_was_recorded_in_part_is_not_recorded_twice(
    waiting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(LAST_RUN, "write", lambda *_: sys.exit(9))  # after ML Metadata
        assert decide("reject", waiting).exit_code == 9
    assert decide("reject", waiting).exit_code == 0
    (last,) = recorded(waiting)
    assert [failure.stage for failure in last.failures].count("Pusher") == 1


def test_a_run_that_began_since_is_not_taken_for_the_one_that_is_decided_about(waiting: Path) -> None:
    """As on Airflow, between two tasks."""
    home = waiting.parents[2]
    Monitor(NAME, home, "another").started("ImageExampleGen")
    assert decide("approve", waiting).exit_code == 0
    beat = HEARTBEAT.read(home)
    assert (beat.run, beat.status, beat.stages["ImageExampleGen"].state) == ("another", "running", "running")


def test_a_push_directory_that_is_named_otherwise_is_the_same(waiting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (waiting.parents[3] / "link").symlink_to(waiting.parents[2])
    monkeypatch.chdir(waiting.parents[3])
    done = decide("approve", waiting, "--version", "17", "--why", "x", "--directory", "link/serving/")
    assert done.exit_code == 0 and "note" not in done.output, done.output
    (last,) = recorded(waiting)
    assert last.status == "pushed"


def test_a_clusters_record_says_what_was_decided(ram: str, tmp_path: Path) -> None:  # noqa: F811
    directory = f"{ram}/serving"
    pushed = push(str(write_model(tmp_path / "model")), directory, CardSettings(), Origin({}, "code"), approval=True)
    home = f"{ram}/runs/{NAME}"
    record(home, {}, Outcome("waiting", 0, home, run_id="digits-abc", waiting=pushed.path))
    told = tmp_path / "told.json"
    given = ["--config", CONFIG, "--root", str(tmp_path / "nothing"), "--set", f"name={NAME}", "--directory", directory]
    given += ["--set", f"kubeflow.pipeline_root={ram}/runs", "--set", f"notify='cat > {shlex.quote(str(told))}'"]
    version = pushed.path.rpartition("/")[2]
    done = CliRunner().invoke(main, ["approve", *given, "--version", version, "--why", "fine", "--by", "jo"])
    assert done.exit_code == 0 and done.output.startswith(f"now serving {directory}/{version}\n")
    assert "ML Metadata was not told" in done.output and "the record of the run and the version hold it" in done.output
    last = LAST_RUN.read(home)
    assert (last.status, last.pushed_model, last.waiting) == ("pushed", f"{directory}/{version}", None)
    assert last.approval == DECISION.read(f"{directory}/{version}")
    assert json.loads(told.read_text())["status"] == "pushed"


def test_where_only_the_pushed_versions_are_the_decision_is_in_the_version(tmp_path: Path) -> None:
    """As where a cluster ran the pipeline, whose ML Metadata cannot be reached from here."""
    write_model(tmp_path / "models" / ".waiting" / "17")
    given = ["--config", CONFIG, "--root", str(tmp_path / "nothing"), "--version", "17", "--why", "fine"]
    done = CliRunner().invoke(main, ["approve", *given, "--directory", str(tmp_path / "models")])
    assert done.exit_code == 0, done.output
    assert "ML Metadata was not told" in done.output and "only the version holds it" in done.output
    assert DECISION.read(tmp_path / "models" / "17").why == "fine" and not (tmp_path / "nothing").exists()
