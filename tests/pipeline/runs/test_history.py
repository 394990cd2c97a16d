"""Runs and what differs between them, read from real ML Metadata."""

import json
from pathlib import Path

import numpy as np
import pytest

from components.evaluation.predictions import score_bins
from core.artifacts.predictions import CANDIDATE, PREDICTIONS_FILE, write_scores
from core.errors import InputError
from pipeline.cli import tables
from pipeline.runs import history
from pipeline.runs.comparison import Comparison, compare
from pipeline.runs.outcome import RECORD_FILE
from tests.components.evaluation.predicted import CLASSES, predictions
from tests.pipeline.report.report_run import NAME, SETTINGS, write_run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A pipeline that pushed, was refused with another setting, and was interrupted after three stages."""
    home = tmp_path / NAME
    for status, steps in (("pushed", 1), ("refused", 7)):
        outcome = write_run(home, status)
        assert outcome.run_id
        settings = {**SETTINGS, "training": {**SETTINGS["training"], "steps": steps}}
        history.record(history.open_store(home), NAME, outcome.run_id, settings, outcome)
        outcome.write(home / RECORD_FILE)
    write_run(home, "pushed", stages=3)
    return home


def predict(run: history.Run, right: list[bool]) -> None:
    assert run.predicted is not None
    PREDICTIONS_FILE.write(run.predicted, predictions(right))
    scores = score_bins(np.full((len(right), len(CLASSES)), 0.5))
    write_scores(run.predicted, CLASSES, {CANDIDATE: scores})


def test_every_run_is_listed_with_how_it_ended(home: Path) -> None:
    found = history.all_runs(history.open_store(home), NAME)

    assert [(run.status, run.version, run.seconds) for run in found] == [
        ("pushed", "17", 83.0),
        ("refused", None, 83.0),
        ("unfinished", None, None),
    ]
    assert found[0].metrics["accuracy"]["overall"] == 0.8 and found[0].examples == 30
    assert found[1].settings is not None and found[1].settings["training"]["steps"] == 7
    assert found[2].settings is None and found[2].metrics == {} and found[2].predictions() == []


def test_the_history_is_a_table(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import rich.console

    rich.console.Console(width=200).print(tables.history(history.all_runs(history.open_store(home), NAME)))

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and "pushed version" in lines[0]
    assert all(word in lines[1] for word in ("2026-01-01T03:04:05.678", "pushed", "0.8000", "17", "83 s"))


@pytest.mark.parametrize(("reference", "found"), [("2026-01-01", "01"), ("2026-01-02T03:04:05.678", "02")])
def test_a_run_is_found_by_its_id_or_the_beginning_of_it(home: Path, reference: str, found: str) -> None:
    assert history.find(reference, home, NAME).id == f"2026-01-{found}T03:04:05.678"


def test_a_run_is_found_by_its_folder_or_record(home: Path) -> None:
    for path in (home, home / RECORD_FILE):
        assert history.find(str(path), home.parent / "elsewhere", "other").id == "2026-01-02T03:04:05.678"


@pytest.mark.parametrize(
    ("reference", "said"), [("2026", "3 begin so, the last of them 2026-01-"), ("2025", "there is none")]
)
def test_a_run_that_is_not_one_is_the_users_mistake(home: Path, reference: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        history.find(reference, home, NAME)


def test_where_nothing_ran_there_is_no_history(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no runs in"):
        history.open_store(tmp_path)


def compared(home: Path, a: list[bool], b: list[bool]) -> Comparison:
    first, second = history.all_runs(history.open_store(home), NAME)[:2]
    predict(first, a)
    predict(second, b)
    return compare(first, second)


def test_settings_that_differ_are_told_by_their_path(home: Path) -> None:
    found = compared(home, [True] * 50, [True] * 50)

    assert found.settings == {"training.steps": (1, 7)}
    assert [c.more_than_chance for c in found.metrics] == [False]  # cross-entropy was no number in these runs
    json.dumps(found.to_dict())


def test_on_the_same_images_a_change_that_chance_does_not_explain_is_found(home: Path) -> None:
    found = compared(home, [True] * 90 + [False] * 10, [True] * 75 + [False] * 25)

    (accuracy,) = found.metrics
    assert found.same_images and accuracy.more_than_chance
    assert accuracy.low is not None and accuracy.high is not None and accuracy.low < -0.15 < accuracy.high < 0
    assert {change.slice for change in found.slices} == {"label=a", "label=b"}


def test_on_other_images_the_same_change_may_be_chance(home: Path) -> None:
    found = compared(home, [True] * 90 + [False] * 10, [True] * 75 + [False] * 24)

    (accuracy,) = found.metrics
    assert not found.same_images and found.slices == []
    assert accuracy.low is not None and accuracy.high is not None and accuracy.low < -0.14 < accuracy.high
    assert accuracy.high - accuracy.low > 0.18  # two samples are surer to differ by chance than one is


def test_a_comparison_is_told_in_words(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import rich.console

    found = compared(home, [True] * 90 + [False] * 10, [True] * 75 + [False] * 25)
    tables.print_comparison(rich.console.Console(width=200), found)

    out = capsys.readouterr().out
    assert "training.steps" in out and "yes" in out and "slice label=a (50 images)" in out
