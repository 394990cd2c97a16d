"""Decoding in a process of its own, tried where TensorFlow has not run: tests before this one may have run it."""

import os
from pathlib import Path

from tests.conftest import ROOT
from tests.fork_server import ForkServer


def test_a_file_that_harms_its_decoder_harms_nothing_else(forks: ForkServer, tmp_path: Path) -> None:
    files = [tmp_path / "stdout", tmp_path / "stderr"]
    cases = "tests/components/ingestion/decoder_cases.py"
    arguments = [cases, "-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", f"--basetemp={tmp_path / 'cases'}"]
    code = forks.run("pytest", arguments, ROOT, *files, os.environ)
    assert code == 0, files[0].read_text() + files[1].read_text()
    assert "5 passed" in files[0].read_text()
