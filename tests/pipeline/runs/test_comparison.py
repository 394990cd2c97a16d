"""What differs between two runs, and whether by more than chance."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from components.evaluation.predictions import score_bins
from core.artifacts.predictions import CANDIDATE, PREDICTIONS_FILE, write_scores
from pipeline.cli import tables
from pipeline.runs import history
from pipeline.runs.comparison import Comparison, compare
from pipeline.runs.metadata import open_store
from tests.components.evaluation.predicted import CLASSES, predictions
from tests.pipeline.report.report_run import NAME
from tests.pipeline.runs.past_runs import write_past_runs


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return write_past_runs(tmp_path)


def predict(run: history.Run, right: list[bool]) -> None:
    assert run.predicted is not None
    PREDICTIONS_FILE.write(run.predicted, predictions(right))
    scores = score_bins(np.full((len(right), len(CLASSES)), 0.5))
    write_scores(run.predicted, CLASSES, {CANDIDATE: scores})


def compared(run_dir: Path, a: list[bool], b: list[bool]) -> Comparison:
    first, second = history.all_runs(open_store(run_dir, None), NAME)[:2]
    predict(first, a)
    predict(second, b)
    return compare(first, second)


def test_settings_that_differ_are_told_by_their_path(run_dir: Path) -> None:
    found = compared(run_dir, [True] * 50, [True] * 50)

    assert found.settings == {"training.steps": (1, 7)}
    assert [c.more_than_chance for c in found.metrics] == [False]  # cross-entropy was no number in these runs
    json.dumps(dataclasses.asdict(found))


def test_on_the_same_images_a_change_that_chance_does_not_explain_is_found(run_dir: Path) -> None:
    found = compared(run_dir, [True] * 90 + [False] * 10, [True] * 75 + [False] * 25)

    (accuracy,) = found.metrics
    assert found.same_images and accuracy.more_than_chance
    assert accuracy.low is not None and accuracy.high is not None and accuracy.low < -0.15 < accuracy.high < 0
    assert {change.slice for change in found.slices} == {"label=a", "label=b"}


def test_on_other_images_the_same_change_may_be_chance(run_dir: Path) -> None:
    found = compared(run_dir, [True] * 90 + [False] * 10, [True] * 75 + [False] * 24)

    (accuracy,) = found.metrics
    assert not found.same_images and found.slices == []
    assert accuracy.low is not None and accuracy.high is not None and accuracy.low < -0.14 < accuracy.high
    assert accuracy.high - accuracy.low > 0.18  # two samples are surer to differ by chance than one is


def test_a_comparison_is_told_in_words(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import rich.console

    found = compared(run_dir, [True] * 90 + [False] * 10, [True] * 75 + [False] * 25)
    console = rich.console.Console(width=200)
    tables.print_comparison(console, found)

    out = capsys.readouterr().out
    assert "training.steps" in out and "yes" in out and "slice label=a (50 images)" in out
    tables.print_comparison(console, dataclasses.replace(found, slices=found.slices * 15))
    out = capsys.readouterr().out
    assert out.count("slice label=") == 20 and "and 10 more slices, which --json has" in out
