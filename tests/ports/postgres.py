"""A PostgreSQL of the test's own: Airflow's schedulers and tasks write at the same time, which SQLite does not bear."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


def installed() -> Path | None:
    """The folder of PostgreSQL's programs; Debian keeps them off the PATH."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), Path(shutil.which("initdb") or "/").parent]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@contextlib.contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """Runs a server for the time of the block, on a socket in a folder that only its user and root may enter.

    Args:
        programs: of PostgreSQL.

    Yields:
        The database's address, as SQLAlchemy takes it.
    """
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:  # short: the name of a socket has 107 bytes
        user = []
        if os.geteuid() == 0:  # for whom PostgreSQL does not run
            shutil.chown(folder, "postgres")
            user = ["runuser", "--user", "postgres", "--"]
        data = f"{folder}/data"

        def run(program: str, *arguments: str) -> None:
            command = [*user, str(programs / program), "--pgdata", data, *arguments]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)

        run("initdb", "--username=airflow", "--auth=trust", "--no-sync")
        options = f"-c listen_addresses='' -c fsync=off -k {folder}"
        run("pg_ctl", "start", "--wait", "--log", f"{folder}/log", "--options", options)
        try:
            yield f"postgresql+psycopg2://airflow@/postgres?host={folder}"
        finally:
            run("pg_ctl", "stop", "--mode=immediate")
