"""`serve`: the pushed model behind TensorFlow Serving's API, over gRPC and REST, until it is stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from components.serving.metrics import Metrics
from components.serving.model_api import Call
from components.serving.model_server import LOOPBACK, ModelServer
from components.serving.model_versions import ModelVersions
from components.serving.request_logger import RequestLogger
from components.serving.tls import TlsFiles
from core import storage
from core.artifacts import provenance
from core.artifacts.pushed_model import version_of
from core.errors import InputError
from core.loopback import is_loopback
from core.settings.serving import ServingSettings
from pipeline.runs import push_directory

if TYPE_CHECKING:
    from core.signing import PublicKey

_ALL_ADDRESSES = ("0.0.0.0", "::")


@dataclasses.dataclass(frozen=True)
class Listening:
    """Where a server listens, and how.

    Attributes:
        host: an address of this machine; one that others reach needs `tls`.
        port: of gRPC; 0 takes a free one, as for `rest_port`.
        tls: where connections are encrypted.
    """

    host: str = LOOPBACK
    port: int = 8500
    rest_port: int = 8501
    tls: TlsFiles | None = None

    def check(self) -> None:
        """Raises InputError where others could listen in, or the files of TLS are not good."""
        if self.tls:
            self.tls.check()
        elif not is_loopback(f"[{self.host}]:{self.port}"):
            raise InputError(
                f"--host {self.host} can be reached from other machines, which needs encryption: name --certificate "
                f"and --key, or listen on {LOOPBACK} behind a proxy that encrypts"
            )


def serve(
    directory: str,
    name: str,
    listening: Listening,
    settings: ServingSettings,
    say: Callable[[str], None],
    labels: Mapping[str, int] | None = None,
    answered: Sequence[Callable[[Call], None]] = (),
    key: PublicKey | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM; must be called in the main thread.

    Args:
        directory: a SavedModel's folder, or a push directory, whose highest version is served; local or remote.
        name: what clients call the model.
        settings: the server's limits, and its request log.
        say: gets a sentence whenever something happens.
        labels: names of versions, which are served beside the highest.
        answered: each is told of every request.
        key: that must have signed a version; None asks for no signature.

    Raises:
        InputError: there is no model, none that can be loaded, no version that has a label, a port is taken, or the
            request log cannot be written.
    """
    listening.check()
    directory = directory.rstrip("/") or "/"
    one_version = storage.exists(f"{directory}/saved_model.pb")
    if not one_version and not push_directory.versions(directory):
        push_directory.latest(directory, say)  # raises, and says what there is instead

    def find() -> dict[int, str]:
        found = [directory] if one_version else push_directory.versions(directory)
        numbers = map(version_of, found)
        return {int(n) if n.isascii() and n.isdigit() else 1: v for n, v in zip(numbers, found, strict=True)}

    for label, number in (labels or {}).items():
        if number not in find():
            there = ", ".join(map(str, sorted(find())))
            raise InputError(f"--label {label}={number}: there is no version {number} in {directory}, only {there}")
    versions = ModelVersions(find, say, labels, *([lambda version: provenance.verify(version, key)] if key else []))
    with contextlib.ExitStack() as running:
        running.callback(versions.close)
        versions.poll()
        states = versions.states()
        if all(version.error for version in states):
            reasons = "; ".join(f"version {version.number}: {version.error}" for version in states)
            raise InputError(f"no model in {directory} can be loaded: {reasons}")
        if settings.request_log:
            try:
                log = RequestLogger(Path(settings.request_log.folder), settings.request_log)
            except OSError as error:
                raise InputError(
                    f"the request log cannot be written to {settings.request_log.folder}: {error.strerror}; name "
                    "another folder with serving.request_log.folder"
                ) from error
            running.callback(log.close)
            answered = [*answered, log.answered]
            say(f"the request log is in {settings.request_log.folder}")
        with _signals() as signals:  # before anybody can know that it listens
            server = ModelServer(
                name, versions, settings.server, listening.port, host=listening.host, rest_port=listening.rest_port,
                tls=listening.tls, answered=answered, metrics=Metrics(),
            )  # fmt: skip
            running.callback(server.stop)
            grpc = f"gRPC{', encrypted' if listening.tls else ''}, with TensorFlow Serving's API"
            say(f"listening on {server.address}: {grpc}; the model's name is {name}")
            url = f"{'https' if listening.tls else 'http'}://{server.rest_address}"
            say(f"REST:     {url}/v1/models/{quote(name)}; for Prometheus: {url}/metrics")
            here = f"{LOOPBACK}:{server.port}" if listening.host in _ALL_ADDRESSES else server.address
            client = shlex.join([sys.executable, "-m", "pipeline.inference.client", here, name])
            say(f"try it:   {client} one.jpg two.png{' --authority authority.pem' if listening.tls else ''}")
            if not one_version:
                versions.poll_every(settings.server.poll_seconds)
            signals.get()
        say("stopping when running requests have finished")


def version_labels(given: Iterable[str]) -> dict[str, int]:
    """Labels as they are typed, NAME=VERSION.

    Raises:
        InputError: one is none.
    """
    labels: dict[str, int] = {}
    for text in given:
        name, _, version = text.partition("=")
        if not name or not (version.isascii() and version.isdigit()):
            raise InputError(f"--label {text}: give a name and a version's number, such as stable=1796059303")
        if name in labels:
            raise InputError(f"--label {text}: {name} is version {labels[name]} already; give it once")
        labels[name] = int(version)
    return labels


def model_name(directory: str) -> str:
    """What users of TensorFlow Serving expect clients to call a model: the folder of its versions.

    In a run folder that is the push directory, `<name>/serving`: then the pipeline's name.
    """
    folder = PurePosixPath(directory.partition("://")[2]) if storage.is_remote(directory) else Path(directory).resolve()
    folder = folder.parent if folder.name.isdigit() else folder
    return (folder.parent if folder.name == "serving" else folder).name or "model"


@contextlib.contextmanager
def _signals() -> Iterator[queue.SimpleQueue[int]]:
    """Gets SIGINT and SIGTERM while the block lasts."""
    got: queue.SimpleQueue[int] = queue.SimpleQueue()  # may be put to while it is waited on; an Event may not be set
    before = {
        number: signal.signal(number, lambda number, _: got.put(number)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
