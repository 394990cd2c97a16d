"""Where ML Metadata is."""

import socket
from pathlib import Path

import pytest

from core.errors import MachineError
from core.settings.runtime import MetadataServer
from pipeline.runs.metadata import connect


def test_a_server_that_is_down_is_the_machines_fault_so_that_orchestrators_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLMD", "x")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = MetadataServer(host="127.0.0.1", port=port, database="mlmd", user="me", password="${env:MLMD}")
    with pytest.raises(MachineError, match=r"me cannot use the database mlmd of the server at .*Is the server up"):
        connect(tmp_path, server)
