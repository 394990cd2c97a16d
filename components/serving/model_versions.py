"""Manages which versions of a model serve: loads new versions, unloads removed ones, and always keeps one.

As in TensorFlow Serving's default, the highest number serves, and a version is not unloaded before its successor has
loaded and its last request has ended. Versions with a label serve beside it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import tensorflow as tf

from components.serving.served_model import ServedModel, first_line
from core import checksums, storage

_LOG = logging.getLogger(__name__)
_RETRY_SECONDS = 60.0  # as TensorFlow Serving's load_retry_interval


class NoSuchVersionError(LookupError):
    """The requested version is not loaded."""


@dataclasses.dataclass
class Version:
    """One version and its state.

    Attributes:
        state: `LOADING`, `AVAILABLE`, `UNLOADING` or `END`, as in TensorFlow Serving's ModelVersionStatus.
        error: why it could not be loaded; empty if it could.
        files: what tells them from those that somebody puts in their place; None of a remote version.
    """

    number: int
    files: tuple[int, ...] | None = None
    state: str = "LOADING"
    error: str = ""
    model: ServedModel | None = None
    users: int = 0
    retry_at: float = 0.0


class ModelVersions:
    """The versions of one model; requests may come from many threads, `poll` from one."""

    def __init__(
        self,
        find: Callable[[], Mapping[int, str]],
        say: Callable[[str], None] = _LOG.info,
        labels: Mapping[str, int] | None = None,
        verify: Callable[[str], object] = checksums.verify_if_listed,
    ) -> None:
        """Loads nothing yet.

        Args:
            find: returns the folders of the versions, local or remote.
            say: called with a sentence when something changes.
            labels: names of versions to load beside the highest.
            verify: raises OSError if a version must not be loaded.
        """
        self._find = find
        self._say = say
        self.labels = dict(labels or {})
        self._verify = verify
        self._changed = threading.Condition()
        self._versions: dict[int, Version] = {}
        self._stopping = threading.Event()
        self._poller: threading.Thread | None = None

    def poll(self) -> None:
        """Serves the highest version that loads, and those with labels; if none loads, keeps the current ones."""
        found = self._find()
        latest = next((n for n in sorted(found, reverse=True) if self._is_available(n, found[n])), None)
        if latest is None:
            return
        named = [n for n in self.labels.values() if n in found and self._is_available(n, found[n])]
        self._unload_all_but({latest, *named})

    def poll_every(self, seconds: float) -> None:
        """Polls in its own thread until `close`; may be called once."""

        def poll_until_stopped() -> None:
            answers = True
            while not self._stopping.wait(seconds):
                try:
                    self.poll()
                    answers = True
                except storage.StoreError as error:
                    if answers:  # once, however long it lasts
                        self._say(f"{error} What is loaded serves on")
                    answers = False
                except Exception:  # a server must outlive whatever happens to a folder
                    _LOG.exception("looking for versions failed")

        poller = threading.Thread(target=poll_until_stopped, name="model versions", daemon=True)
        poller.start()
        self._poller = poller

    @contextlib.contextmanager
    def use(self, number: int | None = None) -> Iterator[tuple[int, ServedModel]]:
        """Keeps a version, the highest if None, loaded for a request; yields its number and model.

        Raises:
            NoSuchVersionError: it is not loaded.
        """
        with self._changed:
            serving = {n: v for n, v in self._versions.items() if v.state == "AVAILABLE"}
            version = serving.get(max(serving, default=-1) if number is None else number)
            if version is None or version.model is None:
                raise NoSuchVersionError(number)
            version.users += 1
        try:
            yield version.number, version.model
        finally:
            with self._changed:
                version.users -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def hold(self, number: int) -> Iterator[None]:
        """Keeps a version that is in use loaded beyond that use."""
        with self._changed:
            version = self._versions[number]
            version.users += 1
        try:
            yield
        finally:
            with self._changed:
                version.users -= 1
                self._changed.notify_all()

    def states(self) -> list[Version]:
        """All versions so far, by number."""
        with self._changed:
            return [dataclasses.replace(v) for _, v in sorted(self._versions.items())]

    def close(self) -> None:
        """Ends polling, then unloads everything when the last request has ended; loads nothing after that."""
        self._stopping.set()
        if self._poller:
            self._poller.join()
        self._unload_all_but(())

    def _is_available(self, number: int, directory: str) -> bool:
        """Whether a version serves; loads it if it is new, or if loading failed some time ago."""
        known = self._versions.get(number)
        if known and known.state == "AVAILABLE":
            self._tell_if_replaced(known, directory)
            return True
        if known and known.error and time.monotonic() < known.retry_at:
            return False
        return self._load(number, directory)

    def _tell_if_replaced(self, version: Version, directory: str) -> None:
        """A version never changes; TensorFlow Serving does not notice one that did either."""
        now = _identity(directory)
        if now not in (None, version.files):
            version.files = now
            self._say(
                f"version {version.number} was replaced while it serves: what was loaded serves on. Push the new model "
                "under a number of its own, or start the server anew"
            )

    def _load(self, number: int, directory: str) -> bool:
        with self._changed:
            self._versions[number] = version = Version(number, _identity(directory))
        try:
            with storage.local_copy(directory) as local, contextlib.ExitStack() as unless_it_fails:
                self._verify(local)
                if checksums.listed(local) is None:
                    self._say(f"version {number} has no {checksums.CHECKSUMS}, so that nothing can verify its files")
                model = unless_it_fails.enter_context(ServedModel(local))
                model.warm_up()
                unless_it_fails.pop_all()
        except (OSError, tf.errors.OpError, storage.StoreError) as error:
            version.retry_at = time.monotonic() + _RETRY_SECONDS
            with self._changed:
                version.state, version.error = "END", first_line(error)
            self._say(f"version {number} cannot be loaded: {version.error}")
            return False
        with self._changed:
            version.state, version.model = "AVAILABLE", model
        self._say(f"version {number} is serving")
        return True

    def _unload_all_but(self, kept: Collection[int]) -> None:
        with self._changed:
            leaving = [v for v in self._versions.values() if v.state == "AVAILABLE" and v.number not in kept]
            for version in leaving:
                version.state = "UNLOADING"
        for version in leaving:
            with self._changed:
                while version.users:
                    self._changed.wait()
                model, version.model = version.model, None
                version.state = "END"
            if model:
                model.close()
            self._say(f"version {version.number} is unloaded")


def _identity(directory: str) -> tuple[int, ...] | None:
    """What changes when a local version is replaced; None if it is remote or gone."""
    try:
        found = Path(directory, "saved_model.pb").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
