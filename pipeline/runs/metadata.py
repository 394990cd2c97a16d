"""Where a pipeline's ML Metadata is: SQLite in its folder, or the server that `runtime.metadata` names."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import ListOptions, MetadataStore, OrderByField
from ml_metadata.proto import metadata_store_pb2 as pb

from core.artifacts.last_run import SETTINGS
from core.errors import InputError, MachineError
from core.secrets import resolve
from core.settings.converter import from_dict
from core.settings.runtime import MetadataServer
from pipeline.runs.run_dir import METADATA


def connection_config(run_dir: Path, server: MetadataServer | None) -> pb.ConnectionConfig:
    """How to reach the store of the pipeline in that folder, including passwords: never log or store it.

    Raises:
        InputError: the password's environment variable is not set.
    """
    config = pb.ConnectionConfig()
    if server is None:
        config.sqlite.filename_uri = str(run_dir / METADATA)
        config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    else:
        config.mysql.host, config.mysql.port = server.host, server.port
        config.mysql.database, config.mysql.user = server.database, server.user
        config.mysql.password = resolve(server.password)
        config.mysql.skip_db_creation = True  # which would require more rights than a run needs
    return config


def exists(run_dir: Path, server: MetadataServer | None) -> bool:
    """Whether the store may hold any runs."""
    return server is not None or (run_dir / METADATA).is_file()


def open_store(run_dir: Path, server: MetadataServer | None) -> MetadataStore:
    """ML Metadata of the pipeline whose folder this is, or of several on one server.

    Raises:
        InputError: nothing was ever run there.
        MachineError: as of `connect`.
    """
    if not exists(run_dir, server):
        raise InputError(f"there are no runs in {run_dir}: run the pipeline first, or give its CONFIG and ROOT")
    return connect(run_dir, server)


def connect(run_dir: Path, server: MetadataServer | None) -> MetadataStore:
    """Like `open_store`, but creates SQLite's file if there is none.

    Raises:
        MachineError: the file is damaged; the server is down, or does not let this user into the database.
    """
    config = connection_config(run_dir, server)
    if server is None:
        check(run_dir)
        return MetadataStore(config)
    try:
        return MetadataStore(config)
    except RuntimeError as error:  # the only error that ml-metadata raises for an unusable server
        raise MachineError(
            f"runtime.metadata: {server.user} cannot use the database {server.database} of the server at "
            f"{server.host}:{server.port}: {str(error).strip()}. Is the server up, does the database exist, may this "
            "user do anything in it, and is the password right?"
        ) from error


def check(run_dir: Path) -> None:
    """Raises MachineError if SQLite's file in that folder is damaged."""
    path = run_dir / METADATA
    if not path.exists() or not path.stat().st_size:
        return
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
            database.execute("SELECT 1 FROM Artifact LIMIT 1")
    except sqlite3.DatabaseError as error:
        said = "ok" if "locked" in str(error) else str(error)
    if said != "ok":
        raise MachineError(
            f"{path} is damaged ({said}): ML Metadata, which knows all runs and artifacts. Put a copy of it back; or "
            f"begin without its history, cache and last blessed model: mv {path} {path}.damaged. What was pushed "
            "serves on, and the artifacts stay until new ones take their places"
        )


def check_owner(store: MetadataStore, name: str, artifacts: Path) -> None:
    """Raises InputError if the runs of that name in the store keep their artifacts elsewhere: another pipeline's."""
    pipeline = store.get_context_by_type_and_name("pipeline", name)
    last = ListOptions(limit=1, order_by=OrderByField.ID, is_asc=False)
    found = store.get_artifacts_by_context(pipeline.id, last) if pipeline else []
    if found and not Path(found[0].uri).is_relative_to(artifacts):
        raise InputError(
            f"runtime.metadata: the database holds runs of a pipeline {name!r} whose artifacts are elsewhere "
            f"({found[0].uri}), not in {artifacts}: give this pipeline another name, another database, or that ROOT"
        )


def server_of(run_dir: Path) -> MetadataServer | None:
    """Where the last run of another pipeline's folder kept its own."""
    return server_in(SETTINGS.read(run_dir).settings) if Path(SETTINGS.path(run_dir)).is_file() else None


def server_in(settings: dict[str, Any]) -> MetadataServer | None:
    """Of settings as plain values."""
    return from_dict(settings.get("runtime", {}).get("metadata"), MetadataServer | None)  # type: ignore[arg-type]
