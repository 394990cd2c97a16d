"""Decoding in a process of its own: a file that crashes, hangs or exhausts a decoder is a reject, and ends no run.

TensorFlow 2.15's decoders get no fixes any more. What later stages decode has been decoded here before. The process is
a fork, which TensorFlow's threads do not survive: where TensorFlow has run already, as in workers of Beam's engines,
and where multiprocessing allows no children, as in tasks of Airflow's LocalExecutor, images are decoded in this
process, and one that crashes its decoder ends it.
"""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from tensorflow.python.eager import context as eager

from components.ingestion import parallel
from components.ingestion.image_reading import ReadImage, RejectedError, Room
from core.errors import MachineError, cause_of
from core.image_limits import DEFAULT_LIMITS, ImageLimits

_CPU_SECONDS = 60  # between two images; 64 million pixels take some 10
_SECONDS = 600  # likewise, whatever else the machine does
_BYTES = 2**30  # of memory, beside pixels and files
_BYTES_A_PIXEL = 48  # of those in memory at the same time: `parallel.room`
_FILES = 16  # of the largest, with what is made of them
_NO_MEMORY = 12  # its exit code, where it got no more
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_CONTEXT = multiprocessing.get_context("fork")
_LOG = logging.getLogger(__name__)
_starting = threading.Lock()  # a process that is forked meanwhile would hold the pipe of this one open

Read = Callable[[bytes, ImageLimits, Room], ReadImage]


class Decoder:
    """A process that reads images on all cores; it is started when it is needed, and to be closed."""

    def __init__(self, read: Read, limits: ImageLimits) -> None:
        self._read = read
        self._limits = limits
        self._process: _Process | None = None

    def read(self, files: Sequence[bytes]) -> Iterator[ReadImage | RejectedError]:
        """What `read(data, limits, parallel.room)` returns or raises for each, in their order.

        If the process ends, what it had not answered is read file by file, to find whose fault it was. A file is
        rejected for that if it ends a process that has read nothing else.

        Raises:
            MachineError: someone else ended the process, such as the system for want of memory.
        """
        if not files:
            return
        if eager.context_safe() is not None or multiprocessing.current_process().daemon:
            yield from parallel.ordered_map(self._here, files)
            return
        answered = 0
        try:
            for answer in self._ask(files):
                yield answer
                answered += 1
        except _EndedError:
            for data in files[answered:]:
                yield self._alone(data)

    def _here(self, data: bytes) -> ReadImage | RejectedError:
        try:
            return self._read(data, self._limits, parallel.room)
        except RejectedError as error:
            return error

    def close(self) -> None:
        """Ends the process."""
        if self._process:
            self._process.end()
        self._process = None

    def _ask(self, files: Sequence[bytes]) -> Iterator[ReadImage | RejectedError]:
        process, self._process = self._process or _Process(self._read, self._limits), None
        waiting = len(files)
        try:
            for answer in process.ask(files):
                waiting -= 1
                if not waiting:
                    self._process = process
                yield answer
        finally:
            if waiting:  # it has ended, or has more to say than will be heard
                process.end()

    def _alone(self, data: bytes) -> ReadImage | RejectedError:
        fresh = not self._process  # in another one, an earlier file may have spoilt the memory
        try:
            (answer,) = self._ask([data])
        except _EndedError as ended:
            return _verdict(ended.exit_code) if fresh else self._alone(data)
        return answer


class _EndedError(Exception):
    """The process ended before it answered; None: it was ended, as it did not answer in time."""

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class _Process:
    def __init__(self, read: Read, limits: ImageLimits) -> None:
        with _starting:
            self._pipe, end = _CONTEXT.Pipe()
            self._process = _CONTEXT.Process(target=_serve, args=(end, read, limits), daemon=True)
            self._process.start()
            end.close()

    def ask(self, files: Sequence[bytes]) -> Iterator[ReadImage | RejectedError]:
        """See `Decoder.read`; raises _EndedError."""
        try:
            self._pipe.send(len(files))
            for data in files:
                self._pipe.send_bytes(data)
            for data in files:
                if not self._pipe.poll(_SECONDS):
                    raise _EndedError(None)
                answer = self._pipe.recv()
                if isinstance(answer, ReadImage):
                    yield answer if answer.encoded else dataclasses.replace(answer, encoded=data)
                elif isinstance(answer, tuple):
                    yield RejectedError(*answer)
                else:
                    raise answer
        except (EOFError, ConnectionError):
            self._process.join()
            raise _EndedError(self._process.exitcode) from None

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _verdict(exit_code: int | None) -> RejectedError:
    if exit_code is None:
        return RejectedError("decode", f"its decoder did not answer for {_SECONDS} s")
    if exit_code == _NO_MEMORY:
        return RejectedError("decode", "its decoder took too much memory")
    if exit_code >= 0:
        raise RuntimeError(f"the process that decodes images ended with {exit_code}; the log may say why")
    ended_by = signal.Signals(-exit_code)
    if ended_by in _FROM_OUTSIDE:
        raise MachineError(
            f"the process that decodes images was ended by {ended_by.name}, from outside; if memory ran out, give the "
            "machine or container more, or lower data.max_megapixels, and run again"
        )
    if ended_by == signal.SIGXCPU:
        return RejectedError("decode", f"its decoder took more than {_CPU_SECONDS} CPU seconds")
    return RejectedError("decode", f"its decoder crashed ({ended_by.name})")


def _serve(pipe: Connection, read: Read, limits: ImageLimits) -> None:
    """Of the process: reads what it is sent, until the other one has ended."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        taken = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()  # see proc(5)
        pixels = max(limits.pixels, DEFAULT_LIMITS.pixels)
        _limit(resource.RLIMIT_DATA, taken + _BYTES + _BYTES_A_PIXEL * pixels + _FILES * limits.file_bytes)
    _limit(resource.RLIMIT_CORE, 0)

    def answer(data: bytes) -> ReadImage | Exception | tuple[str, str]:
        try:
            image = read(data, limits, parallel.room)
        except RejectedError as error:
            return error.stage, error.reason
        except Exception as error:
            if cause_of(error).blame == "machine":  # no memory is left, which another file may have taken
                os._exit(_NO_MEMORY)
            _LOG.exception("an image could not be read")
            return error
        return dataclasses.replace(image, encoded=b"") if image.encoded is data else image

    try:
        while True:
            files = [pipe.recv_bytes() for _ in range(pipe.recv())]
            _limit_cpu()
            for answered in parallel.ordered_map(answer, files):
                pipe.send(answered)
                _limit_cpu()
    except (EOFError, ConnectionError):
        return


def _limit_cpu() -> None:
    _limit(resource.RLIMIT_CPU, int(time.process_time()) + 1 + _CPU_SECONDS)


def _limit(what: int, most: int) -> None:
    """What is lower already stays."""
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
