"""Decoding in a process of its own, where TensorFlow has not run (tests before this one may have), and where it has."""

import os
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.fork_server import ForkServer

CASES = "tests/components/ingestion/decoder_cases.py"


@pytest.mark.parametrize(
    ("before", "passed"), [({}, "7 passed"), ({"TENSORFLOW_HAS_RUN": "1"}, "4 passed")], ids=["fork", "program"]
)
def test_a_file_that_harms_its_decoder_harms_nothing_else(
    before: dict[str, str], passed: str, forks: ForkServer, tmp_path: Path
) -> None:
    files = [tmp_path / "stdout", tmp_path / "stderr"]
    arguments = [CASES, "-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", f"--basetemp={tmp_path / 'cases'}"]
    code = forks.run("pytest", arguments, ROOT, *files, {**os.environ, **before})
    assert code == 0, files[0].read_text() + files[1].read_text()
    assert passed in files[0].read_text()
