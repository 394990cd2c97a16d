"""A real Airflow takes the DAG file and runs the pipeline: to a pushed model, and to a refusal."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.ports.airflow_home import ENVIRONMENT, WEB_PORT, AirflowHome
from tests.ports.few_digits import write_few_digits

pytestmark = [
    pytest.mark.ports,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not (ENVIRONMENT / "bin" / "airflow").exists(), reason="no .venv-airflow: make airflow-env"),
]

IMAGES_PER_CLASS, MORE_PER_CLASS = 20, 24
SMALL = [
    "backbone.weights=random",
    "head.hidden_units=[]",
    "training.steps=60",
    "training.eval_every=30",
    "evaluation.slices=[label]",
    "evaluation.thresholds={accuracy: {min: 0.1, max_drop: 1.0}}",
    "evaluation.per_slice={}",
    "airflow.retry_delay_minutes=0",
    "airflow.on_failure=failure_callback.note_failed_run",
]
IMPOSSIBLE = "evaluation.thresholds={accuracy: {min: 0.1}, cross_entropy: {max: 1.0e-6}}"
STAGES = {"ImageExampleGen", "ValidationGate", "Trainer", "Baseline", "ModelGate", "Pusher", "TestPredictions"}
SUCCESS_GREEN = (0, 128, 0)


BRACES = "# Airflow's templates eat {{ braces }}, {% tags %} and {# comments #}; \\"


def write_dag(home: AirflowHome, root: Path, images: Path, *overrides: str) -> None:
    schema = home.folder / "schema.pbtxt"
    schema.write_text(f"{BRACES}\n{(ROOT / 'schemas' / 'digits.pbtxt').read_text()}")
    command = [sys.executable, "-m", "pipeline", "airflow", "--root", str(root), "--data", str(images)]
    for override in (f"data.schema={schema}", *SMALL, *overrides):
        command += ["--set", override]
    subprocess.run([*command, "--dag-file", str(home.dags / "digits_dag.py")], cwd=ROOT, check=True)


def last_run(root: Path) -> dict[str, Any]:
    return json.loads((root / "digits" / "last_run.json").read_text())


def pushed(root: Path) -> list[str]:
    return sorted(path.parent.name for path in (root / "digits" / "serving").glob("[0-9]*/saved_model.pb"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders of digits; the second has a few more."""
    folder = tmp_path_factory.mktemp("digits")
    return write_few_digits(folder / "some", IMAGES_PER_CLASS), write_few_digits(folder / "more", MORE_PER_CLASS)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> AirflowHome:
    made = AirflowHome(tmp_path_factory.mktemp("airflow"))
    migrated = made.airflow("db", "migrate")
    assert migrated.returncode == 0, migrated.stdout
    return made


@pytest.fixture(scope="module")
def tested(home: AirflowHome, images: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root in which `airflow dags test` has run the DAG once."""
    root = tmp_path_factory.mktemp("root")
    write_dag(home, root, images[0])
    done = home.airflow("dags", "test", "digits")
    assert done.returncode == 0, done.stdout[-8000:]
    return root


def test_airflow_imports_the_dag(home: AirflowHome, tested: Path) -> None:
    assert "No data found" in home.airflow("dags", "list-import-errors").stdout


def test_a_run_pushes_a_model_and_leaves_its_record_and_report(tested: Path) -> None:
    record = last_run(tested)
    assert (record["status"], record["failures"]) == ("pushed", [])
    assert record["images"]["read"] == 10 * IMAGES_PER_CLASS
    assert {stage["id"] for stage in record["stages"]} >= STAGES
    assert Path(record["pushed_model"]).name == pushed(tested)[0]
    assert record["run_id"].startswith("digits.manual") and "Trainer" in Path(record["report"]).read_text()


def test_nothing_in_the_settings_is_taken_for_a_template(home: AirflowHome, tested: Path) -> None:
    (written,) = (tested / "digits" / "artifacts" / "ImportSchemaGen" / "schema").glob("*/schema.pbtxt")
    assert written.read_text() == (home.folder / "schema.pbtxt").read_text()
    assert written.read_text().startswith(BRACES)


def test_a_model_that_misses_a_bound_is_refused_though_airflow_knows_no_conditions(
    home: AirflowHome, images: tuple[Path, Path], tested: Path
) -> None:
    before = pushed(tested)
    write_dag(home, tested, images[0], IMPOSSIBLE)
    done = home.airflow("dags", "test", "digits", "--conf", json.dumps({"images": str(images[1])}))
    assert done.returncode != 0, done.stdout[-8000:]
    assert "refused: nothing was pushed: " in done.stdout and "cross_entropy" in done.stdout
    record = last_run(tested)
    assert record["status"] == "refused" and record["pushed_model"] is None
    assert record["images"]["read"] == 10 * MORE_PER_CLASS  # the parameter of the run, not the settings'
    assert record["metrics"]["accuracy"]["baseline"] is not None  # the run before was blessed
    assert pushed(tested) == before
    assert len(home.failed_runs.read_text().splitlines()) == 1


def test_bad_input_fails_at_once_in_the_users_words(home: AirflowHome, tested: Path) -> None:
    done = home.airflow("dags", "test", "digits", "--conf", json.dumps({"images": "/nowhere"}))
    assert done.returncode != 0
    assert "AirflowFailException: " in done.stdout and "/nowhere" in done.stdout
    assert "UP_FOR_RETRY" not in done.stdout
    assert last_run(tested)["status"] == "failed"


def call(path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Airflow's stable REST API."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{WEB_PORT}/api/v1{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def wait_for(seconds: float, what: str, home: AirflowHome, ready: Any) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := ready():
                return found
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(3)
    logs = "\n".join((home.folder / name).read_text()[-4000:] for name in ("scheduler.log", "webserver.log"))
    raise AssertionError(f"no {what} after {seconds} s\n{logs}")


def test_the_scheduler_runs_what_the_rest_api_triggers_and_the_grid_shows_it(
    home: AirflowHome, images: tuple[Path, Path], tested: Path, tmp_path: Path
) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no browser: chromium is not installed (apt-get install chromium)")
    write_dag(home, tmp_path / "root", images[0], "airflow.schedule='@yearly'", "airflow.start_date='2099-01-01'")
    with home.server("scheduler", "--skip-serve-logs"), home.server("webserver"):
        details = wait_for(300, "DAG", home, lambda: call("/dags/digits/details"))
        assert details["max_active_runs"] == 1 and details["catchup"] is False
        assert details["schedule_interval"]["value"] == "@yearly" and details["params"]["images"]["value"] == str(
            images[0]
        )
        run = call("/dags/digits/dagRuns", {"dag_run_id": "by-rest", "conf": {"span": None}})
        assert run["state"] == "queued"

        def ended() -> dict[str, Any] | None:
            now = call("/dags/digits/dagRuns/by-rest")
            return now if now["state"] in ("success", "failed") else None

        assert wait_for(2400, "end of the run", home, ended)["state"] == "success"
        tasks = call("/dags/digits/dagRuns/by-rest/taskInstances")["task_instances"]
        assert {task["task_id"] for task in tasks} >= {*STAGES, "Report"}
        assert {task["state"] for task in tasks} == {"success"}
        assert len(pushed(tmp_path / "root")) == 1
        picture = tmp_path / "grid.png"
        subprocess.run(
            [
                chromium,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--window-size=1400,1000",
                "--virtual-time-budget=20000",
                f"--user-data-dir={tmp_path / 'profile'}",
                f"--screenshot={picture}",
                f"http://127.0.0.1:{WEB_PORT}/dags/digits/grid",
            ],
            check=True,
            capture_output=True,
            timeout=300,
        )
    with Image.open(picture) as shown:
        colours = Counter(shown.convert("RGB").getdata())
    assert len(colours) > 50
    assert colours[SUCCESS_GREEN] > len(tasks) * 20  # a green square for every task
