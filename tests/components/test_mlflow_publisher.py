"""MlflowPublisher: a pushed model as MLflow's, and in words what keeps it from being registered."""

import base64
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tensorflow as tf
from ruamel.yaml import YAML
from tfx.types import Artifact
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import ModelBlessing, PushedModel

from components.mlflow_publisher import MlflowPublisher
from components.serving import mlflow_loader
from components.serving.mlflow_model import write_model
from components.serving.mlflow_registry import Registry
from core import checksums
from core.errors import InputError, MachineError
from core.settings import converter, loading
from core.settings.publish import MlflowSettings
from tests.conftest import ROOT
from tests.model_factory import image_bytes, save_model


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("pushed") / "1700000000")


def publish(version: Path | None, folder: Path, settings: MlflowSettings) -> Artifact:
    pushed, blessing, model = PushedModel(), ModelBlessing(), File()
    pushed.set_int_custom_property("pushed", int(version is not None))
    pushed.set_string_custom_property("pushed_destination", str(version or ""))
    blessing.uri, model.uri = str(folder / "blessing"), str(folder / "mlflow")
    component = MlflowPublisher.EXECUTOR_SPEC.executor_class()
    inputs = {"pushed_model": [pushed], "blessing": [blessing]}
    properties = {"settings": converter.to_json(settings), "pipeline_name": "birds", "parameters": "{}", "code": ""}
    component.Do(inputs, {"mlflow_model": [model]}, properties)
    return model


def test_the_folder_is_a_model_of_mlflows_with_the_pushed_files(version: Path, tmp_path: Path) -> None:
    folder = Path(publish(version, tmp_path, MlflowSettings()).uri)
    assert checksums.verify(str(folder / "tfmodel")) and checksums.listed(str(folder / "tfmodel"))
    described = YAML(typ="safe", pure=True).load(folder / "MLmodel")
    assert described["flavors"]["tensorflow"]["signature_def_key"] == "serving_images"
    assert json.loads(described["signature"]["inputs"]) == [{"type": "binary", "name": "images", "required": True}]
    named = described["flavors"]["python_function"]
    assert (folder / named["code"] / f"{named['loader_module']}.py").is_file() and (folder / named["data"]).is_dir()
    assert f"tensorflow=={tf.__version__}" in (folder / "requirements.txt").read_text().split()


def test_what_answers_in_mlflow_gives_texts_and_the_reason_for_a_bad_image(version: Path, tmp_path: Path) -> None:
    import pandas as pd

    write_model(str(version), str(tmp_path / "mlflow"))
    example = json.loads((tmp_path / "mlflow" / "input_example.json").read_text())
    table = pd.DataFrame({"images": [image_bytes(1), b"text", base64.b64decode(example["data"][0][0])]})
    found = mlflow_loader._load_pyfunc(str(tmp_path / "mlflow" / "tfmodel")).predict(table)
    assert list(found["label"][:2]) == ["green", ""]
    assert found["error"][0] == "" and found["error"][1] != "" and found["error"][2] == ""
    assert found["classes"][0] == ["red", "green", "blue"] and found["probability"][0] > 0.9


def test_nothing_is_published_where_nothing_was_pushed(tmp_path: Path) -> None:
    model = publish(None, tmp_path, MlflowSettings("http://127.0.0.1:9"))
    assert not Path(model.uri).exists() and not model.get_string_custom_property("registered")


def test_a_server_that_does_not_answer_fails_the_stage_after_the_push(version: Path, tmp_path: Path) -> None:
    with pytest.raises(
        MachineError, match=r"mlflow.tracking_uri is http://127.0.0.1:9, which cannot be reached .*again"
    ):
        publish(version, tmp_path, MlflowSettings("http://127.0.0.1:9"))


@pytest.fixture
def server() -> Iterator[Callable[[int, str], str]]:
    """Starts a server that gives this answer to everything; returns its address."""
    started = []

    def start(code: int, text: str) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(code)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        made = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        started.append(made)
        return f"http://127.0.0.1:{made.server_port}"

    yield start
    for made in started:
        made.shutdown()
        made.server_close()


@pytest.mark.parametrize(
    ("code", "text", "said"),
    [
        (200, "<html>hello</html>", "does not answer as MLflow does"),
        (401, "You are not authenticated", "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (500, '{"error_code": "INTERNAL_ERROR"}', r"refuses mlflow/model-versions/search \(500: .*INTERNAL_ERROR"),
    ],
    ids=["no mlflow", "no login", "an error"],
)
def test_an_answer_that_is_no_use_is_told_in_words(
    server: Callable[[int, str], str], code: int, text: str, said: str
) -> None:
    with pytest.raises(MachineError, match=said):
        Registry(server(code, text)).find("birds", {})


@pytest.mark.parametrize("uri", ["mlflow:5000", "file:///tmp/mlruns", "http://me:secret@host", "http://"])
def test_an_address_of_another_kind_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match=r"mlflow\.tracking_uri"):
        loading.load(ROOT / "configs" / "digits.yaml", ["publish=mlflow", f"mlflow.tracking_uri={uri}"])
