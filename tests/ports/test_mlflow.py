"""A pushed model is registered with a real MLflow server, from which MLflow then loads and serves it."""

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.serving.mlflow_model import write_model
from core.artifacts.verdict import VERDICT
from core.settings.publish import MlflowSettings
from tests.components.test_mlflow_publisher import publish
from tests.model_factory import image_bytes, save_model
from tests.pipeline.runs.test_outcome import VERDICT as MEASURED
from tests.trainer.export.test_newest_tensorflow import make_environment

pytestmark = [pytest.mark.ports, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("pushed") / "1700000000")


@pytest.fixture(scope="module")
def environment(version: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment that the model's own requirements make, and nothing of ours."""
    model = tmp_path_factory.mktemp("model") / "mlflow"
    write_model(str(version), str(model))
    return make_environment(tmp_path_factory.mktemp("environment") / "venv", ["-r", str(model / "requirements.txt")])


def _answer(url: str, content: object | None = None) -> bytes:
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


@contextlib.contextmanager
def _running(environment: Path, folder: Path, ready: str, *command: str, **variables: str) -> Iterator[str]:
    """One of MLflow's servers on 127.0.0.1; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = {"PATH": f"{environment}:{os.environ['PATH']}", "PYTHONPATH": "", "CUDA_VISIBLE_DEVICES": "-1"}
    with (folder / f"{command[0]}.log").open("w+") as log:
        server = subprocess.Popen(
            [environment / "mlflow", *command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            env=os.environ | paths | variables,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                assert server.poll() is None, Path(log.name).read_text()[-3000:]
                with contextlib.suppress(urllib.error.URLError, OSError):
                    _answer(address + ready)
                    break
                time.sleep(0.5)
            yield address
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, 9)
            server.wait()


def test_a_pushed_model_is_registered_once_and_mlflow_loads_and_serves_it(
    version: Path, environment: Path, tmp_path: Path
) -> None:
    (tmp_path / "blessing").mkdir()
    VERDICT.write(tmp_path / "blessing", MEASURED)
    store = ("--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--artifacts-destination", f"{tmp_path}/store")
    with _running(environment, tmp_path, "/health", "server", *store) as tracking:
        settings = MlflowSettings(tracking, experiment="flowers")
        names = []
        for _ in range(2):
            names.append(publish(version, tmp_path, settings).get_string_custom_property("registered"))
            shutil.rmtree(tmp_path / "mlflow")
        assert names == ["models:/birds/1", "models:/birds/1"]

        run = json.loads(_answer(f"{tracking}/api/2.0/mlflow/model-versions/get?name=birds&version=1"))["model_version"]
        logged = json.loads(_answer(f"{tracking}/api/2.0/mlflow/runs/get?run_id={run['run_id']}"))["run"]
        assert logged["info"]["status"] == "FINISHED"
        metrics = {one["key"]: one["value"] for one in logged["data"]["metrics"]}
        assert metrics == {name: found.value for name, found in MEASURED.overall.metrics.items()}

        serve = ("models", "serve", "--env-manager", "local", "-m", names[0])
        with _running(environment, tmp_path, "/ping", *serve, MLFLOW_TRACKING_URI=tracking) as scoring:
            images = [image_bytes(1), b"text"]
            table = {"columns": ["images"], "data": [[base64.b64encode(image).decode()] for image in images]}
            found = json.loads(_answer(f"{scoring}/invocations", {"dataframe_split": table}))["predictions"]
    assert [one["label"] for one in found] == ["green", ""]
    assert found[1]["error"] and not found[0]["error"]
