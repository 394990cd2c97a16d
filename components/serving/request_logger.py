"""Writes the request log (`core.artifacts.request_log`): a sample of the requests, within limits, in a thread."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import itertools
import logging
import os
import queue
import random
import re
import tempfile
import threading
import time
from pathlib import Path

import msgspec

from components.serving.answers import Answer, answers, probabilities
from components.serving.model_api import Call
from core.artifacts import request_log
from core.artifacts.request_log import LoggedImage
from core.settings.serving import RequestLogSettings
from trainer.images.tolerant_decoding import claimed_size

_LOG = logging.getLogger(__name__)
_MOST_WAITING = 1000  # images whose lines are not written yet; more are left out, so that a slow disk slows no answer
_MOST_BYTES = 64 * 2**20  # of images that are not written yet
_FILES = 20  # that the log's size is divided among
_FILE_SECONDS = 3600.0
_CLEAN_SECONDS = 60.0
_REPORT_SECONDS = 60.0  # between two reports of a disk that does not take the log
_CLOSE_SECONDS = 5.0  # that a disk has at the end
_DAY_SECONDS = 86_400.0
_PICTURE = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}\.\d+")  # names of pictures of the log, and of those not yet written
_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF8": "GIF", b"BM": "BMP"}


class RequestLogger:
    """Logs a sample of the images in requests to a folder."""

    def __init__(self, folder: Path, settings: RequestLogSettings) -> None:
        """Creates the folder, which only its owner may read.

        Raises:
            OSError: it cannot be created or written.
        """
        self.folder = folder
        self._settings = settings
        self._images = folder / request_log.IMAGES
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        self._random = random.Random()
        self._queue: queue.Queue[tuple[LoggedImage, bytes] | None] = queue.Queue(_MOST_WAITING)
        self._written = 0  # bytes since the log was cleaned
        self._bytes = 0  # of images that are not written yet
        self._counting = threading.Lock()
        self._left_out = 0
        self._why = ""  # the last of them was
        self._path = Path()
        self._file_until, self._clean_at = 0.0, time.time() + _CLEAN_SECONDS
        self._clean(time.time())
        self._thread = threading.Thread(target=self._write_all, name="request log", daemon=True)
        self._thread.start()

    def answered(self, call: Call) -> None:
        """Queues a sample of a request's images; never blocks."""
        now = datetime.datetime.now(datetime.timezone.utc)
        for answer in answers(call):
            if self._random.random() < self._settings.sample:
                image = answer.image if self._settings.images else b""
                if self._queue.full() or self._bytes + len(image) > _MOST_BYTES:
                    self._leave_out()
                    continue
                with self._counting:
                    self._bytes += len(image)
                self._queue.put((_line(now, call, answer), image))

    def close(self) -> None:
        """Writes what is queued, unless the disk hangs."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=_CLOSE_SECONDS)
        self._thread.join(_CLOSE_SECONDS)

    def _write_all(self) -> None:
        report_at = 0.0
        while (entry := self._queue.get()) is not None:
            try:
                self._write(*entry)
            except OSError as error:
                self._why = str(error)
                self._file_until = 0.0  # the last line may be written in part, and the next one must not follow it
                self._leave_out()
            with self._counting:
                self._bytes -= len(entry[1])
            if time.monotonic() >= report_at and self._report():
                report_at = time.monotonic() + _REPORT_SECONDS
        self._report()

    def _leave_out(self) -> None:
        with self._counting:
            self._left_out += 1

    def _report(self) -> bool:
        """Reports how many images were left out, and why; returns whether any was."""
        with self._counting:
            left_out, self._left_out = self._left_out, 0
        if left_out:
            why = self._why or "it could not be written fast enough"
            _LOG.warning("%d images are not in the request log: %s", left_out, why)
            self._why = ""
        return left_out > 0

    def _write(self, line: LoggedImage, image: bytes) -> None:
        now = time.time()
        if now >= self._clean_at or self._written > self._settings.max_bytes // _FILES:
            self._clean_at, self._written = now + _CLEAN_SECONDS, 0
            self._clean(now)
        if image and line.format:
            name = hashlib.sha256(image).hexdigest()
            self._keep(self._images / name, image)
            line = dataclasses.replace(line, file=f"{request_log.IMAGES}/{name}")
        if now >= self._file_until or not 0 <= self._size() <= self._settings.max_bytes // _FILES:
            stamp = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
            self._path = self.folder / f"requests-{stamp}-{os.getpid()}.jsonl"
            self._path.touch(0o600)
            self._file_until = now + _FILE_SECONDS
        with self._path.open("ab") as file:
            self._written += file.write(msgspec.json.encode(line) + b"\n")

    def _size(self) -> int:
        """The size of the current file; -1 if it is gone, as another server with the same log may have deleted it."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return -1

    def _keep(self, path: Path, image: bytes) -> None:
        if path.exists():
            return
        self._images.mkdir(mode=0o700, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        self._written += unfinished.write_bytes(image)
        unfinished.replace(path)

    def _clean(self, now: float) -> None:
        """Deletes files of the log that are too old, then the oldest beyond the size limit."""
        files = []
        pictures = (path for path in self._images.glob("*") if _PICTURE.fullmatch(path.name))  # others are not ours
        for path in itertools.chain(self.folder.glob(request_log.PATTERN), pictures):
            with contextlib.suppress(FileNotFoundError):  # another server with the same log may have deleted it
                found = path.stat()
                files.append((found.st_mtime, found.st_size, path))
        total = sum(size for _, size, _ in files)
        for changed, size, path in sorted(files):
            too_old = now - changed > self._settings.max_days * _DAY_SECONDS
            if (too_old or total > self._settings.max_bytes) and path != self._path:
                path.unlink(missing_ok=True)
                total -= size


def _line(now: datetime.datetime, call: Call, answer: Answer) -> LoggedImage:
    kind = next((name for magic, name in _MAGIC.items() if answer.image.startswith(magic)), "")
    try:
        width, height = claimed_size(answer.image)
    except ValueError:
        width, height = 0, 0
    return LoggedImage(
        time=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        model=call.model,
        version=call.version,
        label=answer.label,
        probability=answer.probability,
        probabilities=probabilities(call, answer.row),
        error=answer.error,
        reason=answer.reason,
        novelty=answer.novelty,
        format=kind,
        width=width,
        height=height,
        bytes=len(answer.image),
    )
