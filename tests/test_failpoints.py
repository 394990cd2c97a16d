"""Whatever ends a program at whatever file operation: nothing half-written is seen, and nothing is lost."""

import os
from pathlib import Path

from tests.conftest import ROOT
from tests.failpoints import SCENARIOS
from tests.fork_server import ForkServer


def test_every_scenario_survives_its_end_at_every_file_operation(forks: ForkServer, tmp_path: Path) -> None:
    out, errors = tmp_path / "out", tmp_path / "errors"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    code = forks.run("tests.failpoints", ["--quick"], ROOT, out, errors, environment)
    assert code == 0, out.read_text() + errors.read_text()
    lines = [line.split() for line in out.read_text().splitlines()]
    ran = [(name, mode) for name, mode, *_ in lines]
    assert ran == [(name, mode) for name, scenario in SCENARIOS.items() for mode in scenario.modes[-1:]]
    assert min(int(count) for _, _, count, *_ in lines) >= 5
