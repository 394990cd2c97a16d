"""An Airflow of the test's own: its home, its database and its folder of DAGs, in the environment `.venv-airflow`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.fork_server import ForkServer

ENVIRONMENT = ROOT / ".venv-airflow"
with socket.create_server(("127.0.0.1", 0)) as _free:
    WEB_PORT = _free.getsockname()[1]

needs_airflow = pytest.mark.skipif(
    not (ENVIRONMENT / "bin" / "airflow").exists(), reason="no .venv-airflow: make airflow-env"
)

_SMALL = [
    "backbone.weights=random",
    "head.hidden_units=[]",
    "training.steps=60",
    "training.eval_every=30",
    "evaluation.slices=[label]",
    "evaluation.thresholds={accuracy: {min: 0.1, max_drop: 1.0}}",
    "evaluation.per_slice={}",
    "serving.timeout_seconds=1800",  # a machine that runs all this at once is slow
    "airflow.retry_delay_minutes=0",
    "airflow.on_failure=failure_callback.note_failed_run",
]
STAGES = {"ImageExampleGen", "ValidationGate", "Trainer", "Baseline", "ModelGate", "Pusher", "Predictor"}
"""Some of the DAG's tasks."""

_WEB_SERVER = """\
AUTH_ROLE_PUBLIC = "Admin"
WTF_CSRF_ENABLED = False
"""


class AirflowHome:
    """Made empty, with a database; `airflow` runs its command line.

    Args:
        folder: gets everything.
        variables: of the environment, beside the home's own.

    Attributes:
        folder: `AIRFLOW_HOME`.
        dags: the folder of DAGs.
        failed_runs: the file in which the call-back notes the runs that failed.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        self._forks: ForkServer | None = None
        self.folder = folder
        self.dags = folder / "dags"
        self.failed_runs = folder / "failed_runs"
        self.dags.mkdir(parents=True)
        (folder / "webserver_config.py").write_text(_WEB_SERVER)
        (folder / "plugins").mkdir()  # where Airflow finds a user's own modules
        shutil.copy(Path(__file__).parent / "failure_callback.py", folder / "plugins")
        self._environment = os.environ | {
            "PATH": f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "FAILED_RUNS": str(self.failed_runs),
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "600",  # of seconds; importing TFX takes half a minute
            "AIRFLOW__CORE__DAG_FILE_PROCESSOR_TIMEOUT": "600",
            "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "3600",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",  # of seconds; there are thirty tasks to wait for
            "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.default",
            "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
            "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(WEB_PORT),
            "AIRFLOW__WEBSERVER__WORKERS": "1",
            "AIRFLOW__WEBSERVER__WEB_SERVER_MASTER_TIMEOUT": "600",
            "AIRFLOW__WEBSERVER__WEB_SERVER_WORKER_TIMEOUT": "600",
            **(variables or {}),
        }
        migrated = self.airflow("db", "migrate")
        assert migrated.returncode == 0, migrated.stdout

    def write_dag(self, root: Path, images: Path, *overrides: str) -> None:
        """Writes the DAG `digits` as users do, by the command line."""
        command = [sys.executable, "-m", "pipeline", "airflow", "--root", str(root), "--data", str(images)]
        for override in (*_SMALL, *overrides):
            command += ["--set", override]
        subprocess.run([*command, "--dag-file", str(self.dags / "digits_dag.py")], cwd=ROOT, check=True)

    @contextlib.contextmanager
    def forking(self) -> Iterator[None]:
        """While the block lasts, `airflow` starts from a process that has imported Airflow and the stack."""
        modules = ("airflow.cli.commands.dag_command", "pipeline.pipeline", "pipeline.runners.single_node")
        with ForkServer(ENVIRONMENT / "bin" / "python", modules, self._environment) as self._forks:
            yield
        self._forks = None

    def airflow(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `airflow …` to its end; standard error is in the output."""
        if self._forks:
            output = self.folder / "output"
            output.unlink(missing_ok=True)
            code = self._forks.run("airflow", arguments, self.folder, output, output, self._environment)
            return subprocess.CompletedProcess(arguments, code, output.read_text())
        return subprocess.run(
            ["airflow", *arguments],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    @contextlib.contextmanager
    def server(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Runs `airflow …` with all that it starts as long as the block lasts; what it prints is in `<name>.log`."""
        with (self.folder / f"{arguments[0]}.log").open("wb") as log:
            process = subprocess.Popen(
                ["airflow", *arguments],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                _stop(process)


def last_run(root: Path) -> dict[str, Any]:
    """The record of the last run of the DAG that keeps its files in `root`."""
    return json.loads((root / "digits" / "last_run.json").read_text())


def pushed(root: Path) -> list[str]:
    """The versions that its runs have pushed."""
    return sorted(path.parent.name for path in (root / "digits" / "serving").glob("[0-9]*/saved_model.pb"))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the process's whole session, gently at first."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.2)
    process.wait()
