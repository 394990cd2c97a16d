"""Runs of a pipeline, read from real ML Metadata."""

from pathlib import Path
from typing import Any

import pytest

from core.artifacts.last_run import LAST_RUN, Tuning
from core.errors import InputError
from core.settings.converter import to_dict
from core.settings.training import LearningRateConfig
from pipeline.cli import tables
from pipeline.runs import history
from pipeline.runs.metadata import open_store
from tests.pipeline.report.report_run import NAME, SETTINGS, write_run
from tests.pipeline.runs.past_runs import write_past_runs


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return write_past_runs(tmp_path)


def test_every_run_is_listed_with_how_it_ended(run_dir: Path) -> None:
    found = history.all_runs(open_store(run_dir, None), NAME)

    assert [(run.status, run.version, run.seconds) for run in found] == [
        ("pushed", "17", 83.0),
        ("refused", None, 83.0),
        ("unfinished", None, None),
    ]
    assert found[0].metrics["accuracy"].overall == 0.8 and found[0].examples == 30
    assert found[1].settings is not None and found[1].settings["training"]["steps"] == 7
    assert found[2].settings is None and found[2].metrics == {} and found[2].predictions() == []


def test_the_history_is_a_table(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import rich.console

    tables.print_history(rich.console.Console(width=200), history.all_runs(open_store(run_dir, None), NAME))

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and "version" in lines[0]
    assert all(word in lines[1] for word in ("2026-01-01T03:04:05.678", "pushed", "0.8000", "17", "83 s"))


@pytest.mark.parametrize(("reference", "found"), [("2026-01-01", "01"), ("2026-01-02T03:04:05.678", "02")])
def test_a_run_is_found_by_its_id_or_the_beginning_of_it(run_dir: Path, reference: str, found: str) -> None:
    assert history.find(reference, run_dir, NAME, None).id == f"2026-01-{found}T03:04:05.678"


def test_a_run_is_found_by_its_folder_or_record(run_dir: Path) -> None:
    for path in (run_dir, run_dir / LAST_RUN.name):
        assert history.find(str(path), run_dir.parent / "elsewhere", "other", None).id == "2026-01-02T03:04:05.678"


@pytest.mark.parametrize(
    ("reference", "said"), [("2026", "3 begin so, the last of them 2026-01-"), ("2025", "there is none")]
)
def test_a_run_that_is_not_one_is_the_users_mistake(run_dir: Path, reference: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        history.find(reference, run_dir, NAME, None)


def test_where_nothing_ran_there_is_no_history(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no runs in"):
        open_store(tmp_path, None)


def test_a_folder_whose_only_run_failed_before_its_first_stage_has_no_run(tmp_path: Path) -> None:
    LAST_RUN.write(tmp_path, write_run(tmp_path / NAME, "refused", stages=0))
    with pytest.raises(InputError, match="names no run: it failed before its first stage"):
        history.find(str(tmp_path), tmp_path, NAME, None)


@pytest.mark.parametrize(
    ("chosen", "rate"),
    [
        (3e-3, ((3e-3,), ())),
        ({"values": [0.1, 0.01], "boundaries": [400]}, ((0.1, 0.01), (400,))),
    ],
)
def test_a_run_with_a_search_has_the_settings_that_it_chose(
    chosen: Any, rate: tuple[tuple[float, ...], tuple[int, ...]], tmp_path: Path
) -> None:
    outcome = write_run(tmp_path / NAME, "pushed")
    assert outcome.run_id
    outcome.tuning = Tuning(2, {"head.hidden_units": [64], "training.learning_rate": chosen})
    store = open_store(tmp_path / NAME, None)
    history.record(store, NAME, SETTINGS, outcome)

    (run,) = history.all_runs(store, NAME)

    assert run.settings is not None and run.settings["head"]["hidden_units"] == [64]
    assert run.settings["training"]["learning_rate"] == to_dict(LearningRateConfig(*rate))
    assert run.settings["training"]["steps"] == SETTINGS["training"]["steps"]
