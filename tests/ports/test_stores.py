"""Local runs push to gs:// and s3://, and every verb works on what lies there; servers of both are on 127.0.0.1."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core import atomic_io, checksums, storage
from core.artifacts.provenance import PROVENANCE, SIGNED
from core.artifacts.pushed_model import MODEL_CARD
from tests.conftest import ROOT
from tests.core.test_signing import write_keys
from tests.fork_server import ForkServer
from tests.ports.few_digits import write_few_digits
from tests.stores import Store

pytestmark = [pytest.mark.ports, pytest.mark.timeout(1800)]

Verb = Callable[..., str]


@pytest.fixture
def verb(store: Store, forks: ForkServer, tmp_path: Path) -> Verb:
    """Runs a verb with a folder and settings of one's own; returns what it prints."""
    images = write_few_digits(tmp_path / "images", 30)
    settings = f"backbone.weights=random training.steps=60 training.learning_rate=1e-3 data.images={images}"
    settings += " evaluation.per_slice={} evaluation.thresholds={accuracy: {min: 0.1}}"
    settings += f" push.directory={store.url}/models push.signing_key={write_keys(tmp_path)[0]}"

    def run(name: str, *arguments: str, more: str = "", code: int = 0) -> str:
        command = [name, "--root", str(tmp_path / "root"), "--set", f"{settings} {more}", *arguments]
        said, complaints = tmp_path / "said", tmp_path / "complaints"
        said.write_text("")
        ended = forks.run("pipeline", command, ROOT, said, complaints, dict(os.environ))
        assert ended == code, said.read_text() + complaints.read_text()
        return said.read_text()

    return run


def test_what_a_run_pushes_to_a_store_is_used_from_there(store: Store, verb: Verb, tmp_path: Path) -> None:
    root = tmp_path / "root" / "digits"

    def last_run() -> dict[str, Any]:
        return json.loads((root / "last_run.json").read_text())

    exported = "export=[tflite-float16]"
    done = verb("run", more=exported)
    first = last_run()["pushed_model"]
    assert re.fullmatch(rf"{store.url}/models/\d+", first) and f"pushed: {first}" in done
    assert checksums.verify(first) and {MODEL_CARD, PROVENANCE, SIGNED} < set(checksums.files(first))
    assert first.rpartition("/")[2] in atomic_io.read_text(f"{first}/{MODEL_CARD}")
    assert first in Path(last_run()["report"]).read_text()

    again = verb("run", more=exported)
    assert "nothing has changed since the run of" in again and "load libraries" not in again

    image = sorted((tmp_path / "images" / "3").iterdir())[0]
    key = str(tmp_path / "ed25519.pub.pem")
    for model in ([], ["--model", first], ["--model", f"{store.url}/models/"], ["--model", f"{first}/float16.tflite"]):
        (answer,) = verb("predict", *model, "--verify-key", key, str(image)).splitlines()
        assert json.loads(answer)["class"] == "3"
    verb("batch-predict", "--verify-key", key, "--output", str(tmp_path / "lines"), str(tmp_path / "images" / "3"))
    assert len((tmp_path / "lines").read_text().splitlines()) == len(list((tmp_path / "images" / "3").iterdir()))

    verb("run", more="training.seed=7")
    second = last_run()["pushed_model"]
    assert int(second.rpartition("/")[2]) > int(first.rpartition("/")[2])
    assert second.rpartition("/")[2] in verb("history")
    assert verb("rollback").splitlines() == [
        f"now serving {first}",
        f"rolled back {store.url}/models/.rolled_back/{second.rpartition('/')[2]}",
    ]
    noted = verb("run", more="training.seed=7")
    assert "which was rolled back" in noted and f"delete {store.url}/models/.rolled_back/" in " ".join(noted.split())

    with (tmp_path / "server").open("w+") as log:
        command = ["serve", "--model", f"{store.url}/models", "--name", "digits", "--port", "0", "--rest-port", "0"]
        server = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *command], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            while "try it" not in (said := (tmp_path / "server").read_text()):
                assert server.poll() is None, said
                time.sleep(0.2)
            (url,) = re.findall(r"REST: +(\S+);", said)
            with urllib.request.urlopen(url, timeout=20) as answer:
                states = json.load(answer)["model_version_status"]
            assert [one["version"] for one in states if one["state"] == "AVAILABLE"] == [first.rpartition("/")[2]]
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 0
        finally:
            server.kill()

    done = verb("run", more="training.seed=8 push.approval=required")
    waiting = last_run()["waiting"]
    assert f"waiting for approval: {waiting}" in done and waiting.startswith(f"{store.url}/models/.waiting/")
    number = waiting.rpartition("/")[2]
    assert f"now serving {store.url}/models/{number}" in verb("approve", "--version", number, "--why", "good")
    assert last_run()["pushed_model"] == f"{store.url}/models/{number}" and not list(storage.find(waiting))
    assert f"deleted {first}" in verb("prune", more="push.keep=1")
    assert [one.path.split("/")[0] for one in storage.find(f"{store.url}/models", number)]
    assert not list(storage.find(first))


def test_a_store_that_does_not_take_a_model_is_told_before_anything_runs(
    store: Store, verb: Verb, tmp_path: Path
) -> None:
    scheme = store.url.partition("://")[0]
    began = time.monotonic()
    refused = verb("run", more=f"push.directory={scheme}://no-such-bucket/models", code=2)
    assert time.monotonic() - began < 40
    said = " ".join(refused.split())
    assert f"failed: bad input or settings push.directory: {scheme}://no-such-bucket/models cannot be written: " in said
    assert "Or name another folder with push.directory" in said
    assert not (tmp_path / "complaints").read_text()
