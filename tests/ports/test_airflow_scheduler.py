"""Airflow as it runs in earnest: scheduler and web server, tasks forked by an executor, a run started through REST."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.ports.airflow_home import STAGES, WEB_PORT, AirflowHome, needs_airflow, pushed
from tests.ports.few_digits import write_few_digits
from tests.ports.postgres import installed, postgres

pytestmark = [pytest.mark.ports, pytest.mark.timeout(3600), needs_airflow]

SUCCESS_GREEN = (0, 128, 0)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[AirflowHome]:
    """On PostgreSQL, with the LocalExecutor, which forks every task from the scheduler."""
    programs = installed()
    if programs is None:
        pytest.skip("no database for an executor: PostgreSQL is not installed (apt-get install postgresql)")
    with postgres(programs) as address:
        variables = {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": address,
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "2",
        }
        made = AirflowHome(tmp_path / "airflow", variables)
        (made.folder / "config").mkdir()
        shutil.copy(Path(__file__).parent / "airflow_local_settings.py", made.folder / "config")
        yield made


def call(path: str, body: dict[str, Any] | None = None, method: str | None = None) -> dict[str, Any]:
    """Airflow's stable REST API."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{WEB_PORT}/api/v1{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={} if body is None else {"Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read() or "{}")


def wait_for(seconds: float, what: str, home: AirflowHome, ready: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := ready():
                return found
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(1)
    logs = "\n".join((home.folder / name).read_text()[-4000:] for name in ("scheduler.log", "webserver.log"))
    raise AssertionError(f"no {what} after {seconds} s\n{logs}")


def states(run: str) -> dict[str, str]:
    """Task -> state."""
    return {task["task_id"]: task["state"] for task in tasks_of(run)}


def tasks_of(run: str) -> list[dict[str, Any]]:
    return call(f"/dags/digits/dagRuns/{run}/taskInstances")["task_instances"]


def take_picture(page: str, picture: Path) -> None:
    command = [
        str(shutil.which("chromium")),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--window-size=1400,1000",
        "--virtual-time-budget=20000",
        f"--user-data-dir={picture.parent / 'profile'}",
        f"--screenshot={picture}",
        f"http://127.0.0.1:{WEB_PORT}{page}",
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)


def test_the_scheduler_runs_what_the_rest_api_triggers_and_the_grid_shows_it(home: AirflowHome, tmp_path: Path) -> None:
    images = write_few_digits(tmp_path / "digits", 20)
    this_year = f"airflow.start_date='{datetime.date.today().year}-01-01'"  # whose end the schedule waits for
    home.write_dag(tmp_path / "root", images, "airflow.schedule='@yearly'", this_year)
    with home.server("scheduler", "--skip-serve-logs"), home.server("webserver"):
        details = wait_for(600, "DAG", home, lambda: call("/dags/digits/details"))
        assert details["max_active_runs"] == 1 and details["catchup"] is False
        assert details["schedule_interval"]["value"] == "@yearly"
        assert details["params"]["images"]["value"] == str(images)

        run = call("/dags/digits/dagRuns", {"dag_run_id": "first", "conf": {"span": None}})
        assert run["state"] == "queued"
        wait_for(600, "task that succeeds", home, lambda: "success" in states("first").values())
        call("/dags/digits/dagRuns", {"dag_run_id": "second"})
        wait_for(2400, "push", home, lambda: states("first")["Pusher"] in ("success", "failed", "upstream_failed"))
        assert call("/dags/digits/dagRuns/second")["state"] == "queued"  # one run at a time
        call("/dags/digits/dagRuns/second", method="DELETE")
        ended = wait_for(600, "end of the run", home, lambda: _ended(call("/dags/digits/dagRuns/first")))

        tasks = tasks_of("first")
        assert ended["state"] == "success", states("first")
        assert {task["task_id"] for task in tasks} >= {*STAGES, "Report"}
        assert {task["state"] for task in tasks} == {"success"}
        assert {task["task_id"] for task in tasks if task["try_number"] > 1} == {"StatisticsGen"}  # lost its first try
        assert len(pushed(tmp_path / "root")) == 1
        if shutil.which("chromium") is None:
            pytest.skip("all but the picture has passed: chromium is not installed (apt-get install chromium)")
        picture = tmp_path / "grid.png"
        take_picture("/dags/digits/grid", picture)
    with Image.open(picture) as shown:
        colors = Counter(shown.convert("RGB").getdata())
    assert len(colors) > 50
    assert colors[SUCCESS_GREEN] > len(tasks) * 20  # a green square for every task


def _ended(run: dict[str, Any]) -> dict[str, Any] | None:
    return run if run["state"] in ("success", "failed") else None
