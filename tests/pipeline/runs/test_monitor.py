"""What monitoring is told of a run, as Prometheus' own parsers read it."""

from __future__ import annotations

import dataclasses
import logging
import re
import time
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as as_openmetrics
from prometheus_client.parser import text_string_to_metric_families as as_text
from ruamel.yaml import YAML

from core import progress
from core.artifacts.heartbeat import HEARTBEAT
from core.artifacts.last_run import Images, Metric, Outcome, Stage
from core.errors import Cause
from pipeline.runs import monitor as monitoring
from pipeline.runs.monitor import Monitor
from tests.conftest import ROOT

SUCCESS = Outcome(
    "pushed",
    0,
    "root",
    metrics={"accuracy": Metric(0.9, 0.8, 1.0, None, None), "f1": Metric(None, None, None, None, None)},
    stages=[Stage("Trainer", 12.5, 3.0, cached=True)],
)


def monitor(folder: Path, run: str = "1", directory: Path | None = None) -> Monitor:
    folder.mkdir(exist_ok=True)
    return Monitor("digits", folder, run, directory and str(directory))


def labels(given: dict[str, str]) -> list[str]:
    assert given["pipeline"] == "digits"
    return [value for key, value in sorted(given.items()) if key != "pipeline"]


def told(folder: Path) -> dict[str, float]:
    """The samples of the text file, by name and labels, which both parsers must agree on."""
    text = (folder / "digits.prom").read_text()
    found, again = (
        {
            " ".join([sample.name.removeprefix("image_classifier_"), *labels(sample.labels)]): sample.value
            for family in parse(text)
            for sample in family.samples
        }
        for parse in (as_text, as_openmetrics)
    )
    assert found == again and text.endswith("# EOF\n")
    return found


def test_a_run_is_followed_stage_by_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "_SECONDS", 0.0)
    run = monitor(tmp_path)
    run.started("Trainer")
    run.progressed("Trainer", {"done": 5, "total": 10, "unit": "steps", "note": ""})
    now = told(tmp_path)
    assert (now["run_status running"], now["stage_running Trainer"]) == (1, 1)
    assert (now["stage_rows Trainer steps"], now["stage_rows_expected Trainer steps"]) == (5, 10)
    assert not {"run_exit_code", "last_success_timestamp_seconds"} & now.keys()
    before = HEARTBEAT.read(tmp_path).at
    run.waited()
    assert HEARTBEAT.read(tmp_path).at > before
    run.ended("Trainer", 1.0, None)
    run.finish(SUCCESS)
    ended = told(tmp_path)
    assert (ended["run_status running"], ended["run_status pushed"], ended["run_exit_code"]) == (0, 1, 0)
    assert [ended[f"stage_{what} Trainer"] for what in ("seconds", "cached", "running")] == [12.5, 1, 0]
    assert ended["model_metric accuracy"] == 0.9 and "model_metric f1" not in ended


def test_a_run_that_failed_does_not_move_the_last_success(tmp_path: Path) -> None:
    monitor(tmp_path).finish(SUCCESS)
    success = told(tmp_path)["last_success_timestamp_seconds"]
    run = monitor(tmp_path, run="2")
    assert told(tmp_path)["run_status running"] == 1 and "stage_seconds Trainer" not in told(tmp_path)
    run.started("Trainer")
    run.ended("Trainer", None, Cause("no memory"))
    run.finish(dataclasses.replace(SUCCESS, status="failed", exit_code=2))
    ended = told(tmp_path)
    assert (ended["run_status failed"], ended["stage_failed Trainer"], ended["run_exit_code"]) == (1, 1, 2)
    assert ended["last_success_timestamp_seconds"] == success


def test_a_run_whose_stages_are_processes_of_their_own_is_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "_SECONDS", 0.0)
    logging.getLogger(progress.LOGGER_NAME).setLevel(logging.INFO)
    with monitor(tmp_path).watching("Trainer"):
        progress.report(3, 4, "steps")
    with pytest.raises(KeyError), monitor(tmp_path).watching("Evaluator"):
        raise KeyError
    now = told(tmp_path)
    assert now["stage_rows Trainer steps"] == 3
    assert (now["stage_failed Trainer"], now["stage_failed Evaluator"]) == (0, 1)


def test_of_a_run_that_was_interrupted_no_stage_runs_on(tmp_path: Path) -> None:
    run = monitor(tmp_path)
    run.started("Trainer")
    run.finish(dataclasses.replace(SUCCESS, status="failed", exit_code=143, stages=[]))
    ended = told(tmp_path)
    assert (ended["stage_running Trainer"], ended["stage_failed Trainer"]) == (0, 1)


def test_a_task_that_says_nothing_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "_SILENCE_SECONDS", 0.05)
    with monitor(tmp_path).watching("Transform"):
        first = HEARTBEAT.read(tmp_path).at
        deadline = time.monotonic() + 20
        while HEARTBEAT.read(tmp_path).at == first:
            assert time.monotonic() < deadline
    assert HEARTBEAT.read(tmp_path).stages["Transform"].state == "ended"


def test_a_clock_that_is_set_back_stops_no_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "_SECONDS", 0.0)
    run = monitor(tmp_path)
    earlier = time.time() - 3600
    monkeypatch.setattr(time, "time", lambda: earlier)
    run.progressed("Trainer", {"done": 5, "total": 10, "unit": "steps", "note": ""})
    assert told(tmp_path)["stage_rows Trainer steps"] == 5


def test_the_text_file_lies_where_node_exporter_reads(tmp_path: Path) -> None:
    (tmp_path / "textfile").mkdir()
    monitor(tmp_path / "run", directory=tmp_path / "textfile")
    assert told(tmp_path / "textfile")["run_status running"] == 1
    assert [path.name for path in (tmp_path / "textfile").iterdir()] == ["digits.prom"]
    assert not (tmp_path / "run" / "digits.prom").exists()


def test_what_cannot_be_written_is_said_and_ends_no_run(tmp_path: Path) -> None:
    run = monitor(tmp_path, directory=tmp_path / "missing")
    run.started("Trainer")
    assert run.problem and "missing" in run.problem
    assert HEARTBEAT.read(tmp_path).stages["Trainer"].state == "running"


def test_a_damaged_heartbeat_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / HEARTBEAT.name).write_text("{")
    assert monitor(tmp_path).problem is None and told(tmp_path)["run_status running"] == 1


def test_the_docs_name_every_metric_and_the_rules_for_alerts_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "_SECONDS", 0.0)
    run = monitor(tmp_path)
    run.progressed("Trainer", {"done": 5, "total": 10, "unit": "steps", "note": ""})
    run.finish(dataclasses.replace(SUCCESS, images=Images(1, 0, 0, 0, 1, 1, 0, 0, 0)))
    known = {sample.split(" ")[0] for sample in told(tmp_path)}
    page = (ROOT / "docs" / "operating.md").read_text()
    (rules,) = (block for block in page.split("```yaml\n") if block.startswith("groups:"))
    rules = rules.split("```")[0]
    alerts = YAML(typ="safe").load(rules)["groups"][0]["rules"]
    assert all({"alert", "expr", "annotations"} <= rule.keys() for rule in alerts)
    assert {name for rule in alerts for name in re.findall(r"image_classifier_(\w+)", rule["expr"])} <= known
    assert all(f"`{name}`" in page for name in known)
