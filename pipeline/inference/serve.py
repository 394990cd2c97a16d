"""`serve`: the pushed model behind TensorFlow Serving's gRPC API on this machine, until it is stopped."""

from __future__ import annotations

import queue
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from components.serving.model_server import ModelServer
from components.serving.model_versions import ModelVersions
from core.errors import InputError
from core.settings.serving import ServerLimits
from pipeline.runs import push_directory


def serve(directory: Path, name: str, port: int, limits: ServerLimits, say: Callable[[str], None]) -> None:
    """Serves until SIGINT or SIGTERM; must be called in the main thread.

    Args:
        directory: a SavedModel's folder, or a push directory, whose highest version is served.
        name: what clients call the model.
        port: of 127.0.0.1; 0 takes a free one.
        say: gets a sentence whenever something happens.

    Raises:
        InputError: there is no model, none that can be loaded, or the port is taken.
    """
    one_version = (directory / "saved_model.pb").is_file()
    if not one_version and not push_directory.versions(directory):
        push_directory.latest(directory, say)  # raises, and says what there is instead

    def find() -> dict[int, str]:
        found = [directory] if one_version else push_directory.versions(directory)
        return {int(v.name) if v.name.isascii() and v.name.isdigit() else 1: str(v) for v in found}

    versions = ModelVersions(find, say)
    try:
        versions.poll()
        states = versions.states()
        if all(version.error for version in states):
            reasons = "; ".join(f"version {version.number}: {version.error}" for version in states)
            raise InputError(f"no model in {directory} can be loaded: {reasons}")
        server = ModelServer(name, versions, limits, port)
        say(f"listening on {server.address}: gRPC, with TensorFlow Serving's API; the model's name is {name}")
        client = shlex.join([sys.executable, "-m", "pipeline.inference.client", server.address, name])
        say(f"try it:   {client} one.jpg two.png")
        if not one_version:
            versions.poll_every(limits.poll_seconds)
        _wait_for_a_signal()
        say("stopping when running requests have finished")
        server.stop()
    finally:
        versions.close()


def model_name(directory: Path) -> str:
    """What users of TensorFlow Serving expect clients to call a model: the folder of its versions.

    In a run folder that is the push directory, `<name>/serving`: then the pipeline's name.
    """
    folder = directory.resolve()
    folder = folder.parent if folder.name.isdigit() else folder
    return (folder.parent if folder.name == "serving" else folder).name or "model"


def _wait_for_a_signal() -> None:
    """Returns at SIGINT or SIGTERM."""
    got: queue.SimpleQueue[int] = queue.SimpleQueue()  # may be put to while it is waited on; an Event may not be set
    before = {
        number: signal.signal(number, lambda number, _: got.put(number)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        got.get()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
