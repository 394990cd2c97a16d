"""`serve`: the pushed model behind TensorFlow Serving's gRPC API on this machine, until it is told to stop."""

from __future__ import annotations

import queue
import signal
from collections.abc import Callable
from pathlib import Path

from components.serving.model_server import ModelServer
from components.serving.model_versions import ModelVersions, single
from core.errors import InputError
from core.settings.server import ServerLimits
from pipeline.runs import push_directory


def serve(directory: Path, name: str, port: int, limits: ServerLimits, say: Callable[[str], None]) -> None:
    """Serves until SIGINT or SIGTERM; must be called in the main thread.

    Args:
        directory: a push directory, of which the highest version is served, looked up again every
            `limits.poll_seconds`; or a SavedModel's folder.
        name: what clients call the model.
        port: of 127.0.0.1; 0 takes a free one.
        limits: what may be asked for.
        say: is told in words what happens.

    Raises:
        InputError: there is no model, none that can be loaded, or the port is taken.
    """
    fixed = (directory / "saved_model.pb").is_file()
    if not fixed:
        push_directory.latest(directory)  # says it in words if there is none

    def pushed() -> dict[int, str]:
        return {int(version.name): str(version) for version in push_directory.versions(directory)}

    number = int(directory.name) if directory.name.isascii() and directory.name.isdigit() else 1
    versions = ModelVersions(single(str(directory), number) if fixed else pushed, say)
    try:
        versions.poll()
        states = versions.states()
        if all(version.error for version in states):
            reasons = "; ".join(f"version {version.number}: {version.error}" for version in states)
            raise InputError(f"no model in {directory} can be loaded: {reasons}")
        server = ModelServer(name, versions, port, limits)
        say(f"listening on {server.address}: gRPC, as TensorFlow Serving speaks it; the model's name is {name}")
        say(f"try it:   .venv/bin/python -m components.serving.model_client {server.address} {name} one.jpg two.png")
        if not fixed:
            versions.poll_every(limits.poll_seconds)
        _wait_for_a_signal()
        say("stopping: what was begun is finished")
        server.stop()
    finally:
        versions.close()


def _wait_for_a_signal() -> None:
    """Returns at SIGINT or SIGTERM."""
    told: queue.SimpleQueue[int] = queue.SimpleQueue()  # may be put to while it is waited on; an Event may not be set
    before = {
        number: signal.signal(number, lambda number, _: told.put(number)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        told.get()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
