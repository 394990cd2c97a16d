"""`serve`, as a user starts it: a process that serves what is pushed, and notices what is pushed and rolled back."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.serving.model_client import RemoteModel
from components.serving.model_server import ModelServer
from components.serving.model_versions import ModelVersions
from core import signatures
from core.errors import InputError
from core.settings.serving import RequestLogSettings, ServerLimits, ServingSettings
from core.signing import public_key
from pipeline.cli import main as cli_main
from pipeline.inference import client
from pipeline.inference.serve import Listening, model_name, serve, version_labels
from pipeline.runs import push_directory
from tests.conftest import ROOT
from tests.core.test_signing import write_keys
from tests.model_factory import image_bytes, save_model


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def exit_code(process: subprocess.Popen) -> int:
    """Of a server that got a signal; where it does not, its threads' stacks go to its errors."""
    try:
        return process.wait(60)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        return process.wait()


@pytest.mark.slow
def test_serve_follows_the_push_directory_and_stops_at_a_signal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed, photo = tmp_path / "serving", tmp_path / "photo.jpg"
    photo.write_bytes(image_bytes(0))
    save_model(pushed / "100", classes=["old", "x", "y"])
    newer = save_model(tmp_path / "newer", classes=["new", "x", "y"])
    log, errors = (tmp_path / "output").open("w"), (tmp_path / "errors").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "serve", "--model", str(pushed), "--port", "0", "--rest-port", "0"],
        cwd=ROOT, stdout=log, stderr=errors, text=True, env=os.environ | {"PYTHONFAULTHANDLER": "1"},
    )  # fmt: skip
    said = (tmp_path / "output").read_text
    try:
        wait_for(lambda: "try it:" in said() or process.poll() is not None)
        assert process.poll() is None, said()
        (command,) = (
            line.split("-m pipeline.inference.client ")[1] for line in said().splitlines() if "try it" in line
        )
        address, name, *_ = command.split()
        client.main([address, name, str(photo)], standalone_mode=False)
        assert json.loads(capsys.readouterr().out) | {"probability": 1, "novelty": 0} == {
            "path": str(photo), "class": "old", "probability": 1, "novelty": 0,
        }  # fmt: skip

        with RemoteModel(address, name) as model:

            def label() -> str:
                return model.request(signatures.IMAGES, [photo.read_bytes()])["label"][0].decode()

            shutil.copytree(newer, pushed / "101", ignore=shutil.ignore_patterns("saved_model.pb"))
            time.sleep(2.5)  # half a push is no version
            assert model.states() == {100: "AVAILABLE"}
            shutil.copy(newer / "saved_model.pb", pushed / "101")
            wait_for(lambda: model.states() == {100: "END", 101: "AVAILABLE"})
            assert label() == "new"
            push_directory.rollback(str(pushed))
            wait_for(lambda: model.states() == {100: "AVAILABLE", 101: "END"})
            assert label() == "old"
        process.send_signal(signal.SIGTERM)
        assert exit_code(process) == 0, said() + (tmp_path / "errors").read_text()
    finally:
        process.kill()
    assert [line for line in said().splitlines() if not line.startswith(("listening", "REST", "try it"))] == [
        "version 100 is serving",
        "version 101 is serving",
        "version 100 is unloaded",
        "version 100 is serving",
        "version 101 is unloaded",
        "stopping when running requests have finished",
        "version 100 is unloaded",
    ]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("build/birds/serving/1796022843", "birds"),
        ("build/birds/serving", "birds"),
        ("/models/robin/7", "robin"),
        ("/models/robin/", "robin"),
        ("exported", "exported"),
        ("/serving/3", "model"),
        ("gs://bucket/models/robin/7", "robin"),
        ("s3://bucket/birds/serving/", "birds"),
        ("gs://bucket", "bucket"),
    ],
)
def test_a_model_is_called_by_the_folder_of_its_versions(folder: str, name: str) -> None:
    assert model_name(folder) == name


def test_with_a_key_only_what_it_signed_is_served(tmp_path: Path) -> None:
    key = public_key(write_keys(tmp_path)[1])
    save_model(tmp_path / "serving" / "1")
    with pytest.raises(InputError, match=r"can be loaded: version 1: provenance.intoto.jsonl: it is not there"):
        serve(str(tmp_path / "serving"), "colors", Listening(port=0, rest_port=0), ServingSettings(), print, key=key)


def test_there_must_be_a_model_that_loads(tmp_path: Path) -> None:
    (tmp_path / "serving").mkdir()
    with pytest.raises(InputError, match="no model has been pushed to"):
        serve(str(tmp_path / "serving"), "colors", Listening(port=0, rest_port=0), ServingSettings(), print)
    model = save_model(tmp_path / "serving" / "1")
    (model / "variables" / "variables.index").unlink()
    for directory, said in (
        (tmp_path / "serving", "is good: version 1 is not used"),
        (model, "can be loaded: version 1"),
    ):
        with pytest.raises(InputError, match=f"{said}: variables/variables.index is missing"):
            serve(str(directory), "colors", Listening(port=0, rest_port=0), ServingSettings(), print)


def test_a_log_that_cannot_be_written_is_told_before_anything_listens(tmp_path: Path) -> None:
    save_model(tmp_path / "serving" / "1")
    (tmp_path / "file").touch()
    settings = ServingSettings(request_log=RequestLogSettings(str(tmp_path / "file" / "log")))
    with pytest.raises(InputError, match=r"the request log cannot be written to .*/file/log: Not a directory; name"):
        serve(str(tmp_path / "serving"), "colors", Listening(port=0, rest_port=0), settings, print)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a=1", "a=2"], "--label a=2: a is version 1 already; give it once"),
        (["a"], "--label a: give a name and a version's number"),
        (["=1"], "--label =1: give a name"),
        (["a=x"], "--label a=x: give a name"),
    ],
)
def test_labels_that_say_nothing_or_two_things_are_refused(labels: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        version_labels(labels)


def test_a_label_of_no_version_is_told_with_those_there_are(tmp_path: Path) -> None:
    save_model(tmp_path / "serving" / "1")
    with pytest.raises(InputError, match=r"--label stable=2: there is no version 2 in .*/serving, only 1"):
        serve(f"{tmp_path}/serving/", "x", Listening(port=0, rest_port=0), ServingSettings(), print, {"stable": 2})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """Its model `digits` knows colors."""
    model = save_model(tmp_path_factory.mktemp("served") / "1")
    versions = ModelVersions(lambda: {1: str(model)})
    versions.poll()
    made = ModelServer("digits", versions, ServerLimits(), rest_port=0)
    yield made
    made.stop()
    versions.close()


@pytest.fixture
def address(server: ModelServer) -> str:
    return server.address


@pytest.fixture
def rest_address(server: ModelServer) -> str:
    assert server.rest_address
    return server.rest_address


def test_the_client_converts_what_the_model_does_not_decode_as_ingestion_does(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = ("JPEG", "WEBP", "TIFF", "AVIF")
    for color, kind in enumerate(kinds):
        (tmp_path / kind).write_bytes(image_bytes(color % 3, format=kind))
    (tmp_path / "notes.txt").write_text("no image")
    paths = [str(tmp_path / name) for name in ("notes.txt", *kinds, "absent.png")]

    client.main([address, "digits", *paths], standalone_mode=False)

    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["path"] for record in found] == paths
    assert [record.get("class") for record in found] == [None, "red", "green", "blue", "red", None]
    assert found[0]["error"] == "not an image but a text"
    assert found[-1]["error"] == "it cannot be opened: No such file or directory"

    with RemoteModel(address, "digits") as model:  # unconverted
        answer = model.request(signatures.IMAGES, [(tmp_path / kind).read_bytes() for kind in kinds])
    assert answer["error"].tolist() == [b"", *[b"not an image, or none of JPEG, PNG, GIF, BMP"] * 3]


@pytest.mark.parametrize("number", [0, 1], ids=["gRPC", "REST"])
def test_the_client_in_the_documentation_works(
    number: int, address: str, rest_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "serving.md").read_text()
    snippet = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[number]
    paths = [tmp_path / "photo.jpg", tmp_path / "notes.txt"]
    paths[0].write_bytes(image_bytes(0))
    paths[1].write_text("no image")

    exec(snippet.replace("127.0.0.1:8500", address).replace("127.0.0.1:8501", rest_address), {"paths": paths})

    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r".*photo\.jpg red 0\.\d{3}|.*photo\.jpg red 1\.000", first)
    assert second.endswith("notes.txt not an image, or none of JPEG, PNG, GIF, BMP")


def test_curl_as_the_documentation_has_it(rest_address: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "serving.md").read_text()
    (command,) = re.findall(r"```\n(base64 .*?)```", text, flags=re.DOTALL)
    (tmp_path / "one.jpg").write_bytes(image_bytes(2))
    command = command.replace("127.0.0.1:8501", rest_address).replace("curl", "curl --silent --noproxy '*'")
    found = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert json.loads(found)["predictions"][0]["label"] == "blue"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "needs encryption: name --certificate"),
        (["--key", "key.pem"], "--certificate and --key belong together: name both"),
        (["--label", "stable"], "--label stable: give a name and a version's number, such as stable="),
        (["--label", "stable=7"], "--label stable=7: there is no version 7 in"),
    ],
    ids=range(4),
)
def test_what_serve_cannot_do_is_said_in_words(options: list[str], said: str, tmp_path: Path) -> None:
    model = save_model(tmp_path / "1")
    result = CliRunner().invoke(cli_main.serve, ["--model", str(model), *options])
    assert result.exit_code == 2
    assert said in result.output


def test_the_client_says_in_words_that_nobody_answers_or_why_it_is_refused(address: str, tmp_path: Path) -> None:
    (tmp_path / "one.jpg").write_bytes(image_bytes(0))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
        result = CliRunner().invoke(client.main, [nobody, "digits", str(tmp_path / "one.jpg")])
    assert result.exit_code == 1
    assert f"no server answers at {nobody}; if it encrypts, name --authority" in result.output
    result = CliRunner().invoke(client.main, [address, "birds", str(tmp_path / "one.jpg")])
    assert "refuses: Servable not found for request: Latest(birds)" in result.output
