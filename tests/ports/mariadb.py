"""A MariaDB of the test's own, with a database and a user that may do no more than a run needs."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

DATABASE, USER, PASSWORD = "mlmd", "pipeline", "s3cret'\"\\ word"


def installed() -> bool:
    return all(shutil.which(program) for program in ("mariadbd", "mariadb-install-db", "mariadb"))


@contextlib.contextmanager
def mariadb() -> Iterator[int]:
    """Runs a server for the time of the block, and yields its port on 127.0.0.1."""
    with tempfile.TemporaryDirectory(prefix="mariadb-") as folder:
        user = []
        if os.geteuid() == 0:  # for whom MariaDB does not run
            shutil.chown(folder, "mysql")
            user = ["--user=mysql"]
        data = f"--datadir={folder}/data"
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", *user, data],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        door = f"--socket={folder}/socket"
        address = ["--bind-address=127.0.0.1", f"--port={port}", f"--pid-file={folder}/pid"]
        with (Path(folder) / "log").open("w") as log:
            server = subprocess.Popen(["mariadbd", "--no-defaults", *user, data, door, *address], stderr=log)
            try:
                deadline = time.monotonic() + 120
                while not Path(folder, "socket").exists():
                    assert server.poll() is None and time.monotonic() < deadline, (Path(folder) / "log").read_text()
                    time.sleep(0.2)
                escaped = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
                subprocess.run(
                    ["mariadb", "--no-defaults", "--user=root", door],
                    input=f"create database {DATABASE}; create user {USER}@'127.0.0.1' identified by '{escaped}'; "
                    f"create user {USER}@localhost identified by '{escaped}'; "
                    f"grant all on {DATABASE}.* to {USER}@'127.0.0.1'; grant all on {DATABASE}.* to {USER}@localhost;",
                    text=True,
                    check=True,
                )
                yield port
            finally:
                server.terminate()
                server.wait()
