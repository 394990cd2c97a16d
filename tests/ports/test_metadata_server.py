"""ML Metadata on a real MariaDB: whole runs, their history, what is cached and deleted, and no password anywhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.fork_server import ForkServer
from tests.ports.few_digits import write_few_digits
from tests.ports.mariadb import DATABASE, PASSWORD, USER, installed, mariadb

pytestmark = [
    pytest.mark.ports,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not installed(), reason="MariaDB is not installed (apt-get install mariadb-server)"),
]

SMALL = "backbone.weights=random training.steps=60 evaluation.thresholds={accuracy: {min: 0.1, max_drop: 1.0}}"


def test_runs_are_kept_on_a_server_whose_password_is_nowhere(forks: ForkServer, tmp_path: Path) -> None:
    images, root = write_few_digits(tmp_path / "images", 12), tmp_path / "build"

    def pipeline(*arguments: str, password: str = PASSWORD, port: int, at: Path = root) -> tuple[int, str]:
        server = f'{{host: 127.0.0.1, port: {port}, database: {DATABASE}, user: {USER}, password: "${{env:MLMD}}"}}'
        settings = (SMALL, f"data.images={images}", "runtime.keep_runs=1", f"runtime.metadata={server}")
        command = [*arguments, "--root", str(at), *(part for setting in settings for part in ("--set", setting))]
        screen = tmp_path / "screen.txt"
        code = forks.run("pipeline", command, ROOT, screen, screen, {**os.environ, "MLMD": password})
        said = screen.read_text()
        screen.unlink()
        return code, said

    with mariadb() as port:
        code, said = pipeline("run", port=port)
        assert code == 0, said
        code, said = pipeline("run", port=port)
        assert code == 0 and "nothing has changed" in said, said
        code, said = pipeline("run", "--from", "ModelGate", "--to", "ModelGate", port=port)
        assert code == 0 and "finished" in said, said
        code, said = pipeline("history", "--json", port=port)
        assert code == 0, said
        runs = json.loads(said[said.index("[\n") :])
        assert [run["status"] for run in runs] == ["pushed", "finished"], said
        assert runs[0]["metrics"]["accuracy"]["overall"] > 0.1
        code, said = pipeline("prune", port=port)
        assert code == 0 and "artifacts and" in said, said
        code, said = pipeline("run", port=port, at=tmp_path / "elsewhere")
        assert code == 2 and "holds runs of a pipeline 'digits' whose artifacts are elsewhere" in said, said
        code, said = pipeline("history", password="wrong", port=port)
        assert code == 4 and f"{USER} cannot use the database {DATABASE}" in said and "password" in said, said
    code, said = pipeline("history", port=port)
    assert code == 4 and "is the server up" in said.lower(), said
    assert not (root / "digits" / "metadata.sqlite").exists()
    leaks = [path for path in root.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert leaks == []
