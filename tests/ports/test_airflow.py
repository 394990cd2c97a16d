"""A real Airflow takes the DAG file and runs the pipeline: to a pushed model, and to a refusal."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.artifacts.nodes import NEVER_CACHED, RESOLVERS
from tests.conftest import ROOT
from tests.ports.airflow_home import STAGES, AirflowHome, last_run, needs_airflow, pushed
from tests.ports.few_digits import write_few_digits

pytestmark = [pytest.mark.ports, pytest.mark.timeout(3600), needs_airflow]

PER_CLASS, MORE_PER_CLASS = 20, 24
IMPOSSIBLE = "evaluation.thresholds={accuracy: {min: 0.1}, cross_entropy: {max: 1.0e-6}}"
BRACES = "# Airflow's templates eat {{ braces }}, {% tags %} and {# comments #}; \\"


def schema(home: AirflowHome) -> str:
    """The setting of a schema that begins with what Airflow would take for a template."""
    path = home.folder / "schema.pbtxt"
    path.write_text(f"{BRACES}\n{(ROOT / 'schemas' / 'digits.pbtxt').read_text()}")
    return f"data.schema={path}"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders of spans: the first has `day-1` and `day-2`, the other one day, with as many images as `day-2`."""
    first, other = (tmp_path_factory.mktemp(name) for name in ("digits", "other-digits"))
    write_few_digits(first / "day-1", PER_CLASS)
    write_few_digits(first / "day-2", MORE_PER_CLASS)
    shutil.copytree(first / "day-2", other / "day-1")
    return first, other


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> AirflowHome:
    return AirflowHome(tmp_path_factory.mktemp("airflow"))


@pytest.fixture(scope="module")
def tested(home: AirflowHome, images: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root in which `airflow dags test` has run the DAG once, on the first of two days.

    That run began in a process that had imported nothing; those after it are forked.
    """
    root = tmp_path_factory.mktemp("root")
    home.write_dag(root, images[0] / "day-{SPAN}", schema(home))
    done = home.airflow("dags", "test", "digits", "--conf", json.dumps({"span": 1}))
    assert done.returncode == 0, done.stdout[-8000:]
    with home.forking():
        yield root


def test_airflow_imports_the_dag(home: AirflowHome, tested: Path) -> None:
    assert "No data found" in home.airflow("dags", "list-import-errors").stdout


def test_a_run_pushes_a_model_and_leaves_its_record_and_report(tested: Path) -> None:
    record = last_run(tested)
    assert (record["status"], record["failures"]) == ("pushed", [])
    assert record["images"]["read"] == 10 * PER_CLASS  # of the span that the run was given, not of the latest
    assert {stage["id"] for stage in record["stages"]} >= STAGES
    assert Path(record["pushed_model"]).name == pushed(tested)[0]
    assert record["run_id"].startswith("digits.manual") and "Trainer" in Path(record["report"]).read_text()


def test_nothing_in_the_settings_is_taken_for_a_template(home: AirflowHome, tested: Path) -> None:
    (written,) = (tested / "digits" / "artifacts" / "ImportSchemaGen" / "schema").glob("*/schema.pbtxt")
    assert written.read_text() == (home.folder / "schema.pbtxt").read_text()
    assert written.read_text().startswith(BRACES)


def test_a_report_that_cannot_be_made_fails_no_run_whose_model_was_pushed(home: AirflowHome, tested: Path) -> None:
    reports = tested / "digits" / "reports"
    reports.rename(tested / "reports")
    reports.touch()
    done = home.airflow("dags", "test", "digits", "--conf", json.dumps({"span": 1}))
    reports.unlink()
    (tested / "reports").rename(reports)
    assert done.returncode == 0, done.stdout[-8000:]
    record = last_run(tested)
    assert (record["status"], record["exit_code"], record["report"]) == ("pushed", 0, None)
    assert any(note.startswith("the report could not be made: ") for note in record["notes"])
    assert record["pushed_model"].endswith(pushed(tested)[0])
    ran = {stage["id"] for stage in record["stages"] if not stage["cached"]}
    assert ran == (RESOLVERS - {"LastBlessed"}) | NEVER_CACHED


def test_a_model_that_misses_a_bound_is_refused_though_airflow_knows_no_conditions(
    home: AirflowHome, images: tuple[Path, Path], tested: Path
) -> None:
    before = pushed(tested)
    home.write_dag(tested, images[0] / "day-{SPAN}", schema(home), IMPOSSIBLE)
    done = home.airflow("dags", "test", "digits", "--conf", json.dumps({"images": str(images[1])}))
    assert done.returncode != 0, done.stdout[-8000:]
    assert "refused: nothing was pushed: " in done.stdout and "cross_entropy" in done.stdout
    record = last_run(tested)
    assert record["status"] == "refused" and record["pushed_model"] is None
    assert record["images"]["read"] == 10 * MORE_PER_CLASS  # in the folder that the run was given
    assert record["metrics"]["accuracy"]["baseline"] is not None  # the run before was blessed
    assert pushed(tested) == before
    assert len(home.failed_runs.read_text().splitlines()) == 1


def test_bad_input_fails_at_once_in_the_users_words(home: AirflowHome, tested: Path) -> None:
    done = home.airflow("dags", "test", "digits", "--conf", json.dumps({"images": "/nowhere"}))
    assert done.returncode != 0
    assert "AirflowFailException: " in done.stdout and "/nowhere" in done.stdout
    assert "UP_FOR_RETRY" not in done.stdout
    record = last_run(tested)  # as a local run records it
    assert (record["status"], record["exit_code"]) == ("failed", 2)
    assert record["failures"][0]["stage"] == "ImageExampleGen" and "/nowhere" in record["failures"][0]["message"]


def test_a_model_that_was_damaged_meanwhile_fails_at_once_and_the_next_run_makes_it_again(
    home: AirflowHome, images: tuple[Path, Path], tested: Path
) -> None:
    home.write_dag(tested, images[0] / "day-{SPAN}", schema(home))
    before = pushed(tested)
    for model in (tested / "digits" / "artifacts" / "Trainer" / "model").rglob("variables.data-*"):
        stat = model.stat()
        content = bytearray(model.read_bytes())
        content[len(content) // 2] ^= 1
        model.write_bytes(content)
        os.utime(model, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a disk does that forgets
    done = home.airflow("dags", "test", "digits", "--conf", json.dumps({"span": 1}))
    assert done.returncode != 0 and "UP_FOR_RETRY" not in done.stdout
    record = last_run(tested)
    assert (record["status"], record["exit_code"]) == ("failed", 4)
    assert record["failures"][0]["message"].endswith(": run the DAG again")
    assert "is damaged: the content of " in record["failures"][0]["message"]
    assert pushed(tested) == before
    done = home.airflow("dags", "test", "digits", "--conf", json.dumps({"span": 1}))
    assert done.returncode == 0, done.stdout[-8000:]
    assert last_run(tested)["status"] == "pushed"
