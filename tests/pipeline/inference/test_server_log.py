"""`serve --log json`: everything that happens is a line of JSON."""

import json
import logging

import pytest

from components.serving.model_api import Call
from pipeline.inference.server_log import json_lines


def test_sentences_requests_and_failures_are_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    with json_lines() as (say, tell):
        say("version 7 is serving")
        tell(Call("rest", "Predict", model="birds", version=7, images=[b"", b""], seconds=0.25))
        tell(Call("grpc", "Predict", code="NOT_FOUND", message="Servable not found"))
        try:
            raise ValueError("broken")
        except ValueError:
            logging.getLogger("components.serving").exception("looking for versions failed")

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [
        ("INFO", "version 7 is serving"), ("INFO", "request"), ("WARNING", "request"),
        ("ERROR", "looking for versions failed"),
    ]  # fmt: skip
    assert all(line["time"].endswith("Z") for line in lines)
    assert {key: lines[1][key] for key in ("protocol", "method", "model", "version", "images", "code", "seconds")} == {
        "protocol": "rest", "method": "Predict", "model": "birds", "version": 7, "images": 2, "code": "OK",
        "seconds": 0.25,
    }  # fmt: skip
    assert lines[2]["error"] == "Servable not found"
    assert "ValueError: broken" in lines[3]["exception"]
