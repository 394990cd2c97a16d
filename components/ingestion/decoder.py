"""Decoding in a process of its own: a file that crashes, hangs or exhausts a decoder is a reject, and ends no run.

TensorFlow 2.15's decoders get no fixes any more. What later stages and models decode has been decoded here before. The
process is a fork, which TensorFlow's threads do not survive. So where TensorFlow has run already, as beside a loaded
model, and where multiprocessing allows no children, as in tasks of Airflow's LocalExecutor, it is forked by a program
in which TensorFlow never runs. That one takes some seconds to start, once for all decoders of the process that asks.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import reduction
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, Generic, TypeVar

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

_PROJECT = Path(__file__).resolve().parents[2]
_CONTEXT = multiprocessing.get_context("fork")
_LOG = logging.getLogger(__name__)
_starting = threading.Lock()  # a process that is forked meanwhile would hold the pipe of this one open

T = TypeVar("T")
Read = Callable[[bytes, ImageLimits, Room], T]


class Decoder(Generic[T]):
    """A process that reads images on all cores; it is started when it is needed, and to be closed.

    Entered, it is started at once: before TensorFlow runs, which makes it a fork.

    Attributes:
        limits: by which it reads.
    """

    def __init__(self, read: Read[T], limits: ImageLimits) -> None:
        """`read` is a function of a module, and gives anything but a tuple."""
        self.limits = limits
        self._read = read
        self._process: _Process | None = None

    def __enter__(self) -> Decoder[T]:
        self._process = _Process(self._read, self.limits)
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def read(self, files: Sequence[bytes]) -> Iterator[T | RejectedError]:
        """What `read(data, limits, parallel.room)` returns or raises for each, in their order.

        If the process ends, what it had not answered is read file by file, to find whose fault it was. A file is
        rejected for that if it ends a process that has read nothing else.

        Raises:
            MachineError: someone else ended the process, such as the system for want of memory.
        """
        if not files:
            return
        answered = 0
        try:
            for answer in self._ask(files):
                yield answer
                answered += 1
        except _EndedError:
            for data in files[answered:]:
                yield self._alone(data)

    def close(self) -> None:
        """Ends the process."""
        if self._process:
            self._process.end()
        self._process = None

    def _ask(self, files: Sequence[bytes]) -> Iterator[T | RejectedError]:
        process, self._process = self._process or _Process(self._read, self.limits), None
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

    def _alone(self, data: bytes) -> T | RejectedError:
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
    def __init__(self, read: Read[Any], limits: ImageLimits) -> None:
        self._fork: ForkProcess | None = None
        self._seconds: float | None = None  # to wait for an answer
        with _starting:
            self._pipe, end = _CONTEXT.Pipe()
            if eager.context_safe() is None and not multiprocessing.current_process().daemon:
                self._seconds = _SECONDS
                self._fork = _CONTEXT.Process(target=_decode, args=(end, self._pipe, read, limits), daemon=True)
                self._fork.start()
            else:
                _ask_program(end, read, limits)
            end.close()

    def ask(self, files: Sequence[bytes]) -> Iterator[Any]:
        """See `Decoder.read`; raises _EndedError."""
        try:
            self._pipe.send(len(files))
            for data in files:
                self._pipe.send_bytes(data)
            for data in files:
                if not self._pipe.poll(self._seconds):
                    raise _EndedError(None)
                answer = self._pipe.recv()
                if isinstance(answer, Exception):
                    raise answer
                yield RejectedError(*answer) if isinstance(answer, tuple) else _with_file(answer, data)
        except (EOFError, ConnectionError):
            raise _EndedError(self._wait()) from None

    def end(self) -> None:
        if self._fork:
            self._fork.kill()
        self._wait()
        self._pipe.close()

    def _wait(self) -> int | None:
        if not self._fork:  # what files harm are the forks of this one
            return -signal.SIGKILL
        self._fork.join()
        return self._fork.exitcode


def _ask_program(pipe: Connection, read: Read[Any], limits: ImageLimits) -> None:
    """Has the program start a process that answers at the pipe as `_decode` does, whatever files do to that."""
    program, control = _program()
    if program.poll() is not None:  # someone else has ended it
        _program.cache_clear()
        program, control = _program()
    control.send((read, limits))
    reduction.send_handle(control, pipe.fileno(), program.pid)


@functools.cache
def _program() -> tuple[subprocess.Popen[bytes], Connection]:
    control, end = _CONTEXT.Pipe()
    program = subprocess.Popen(
        [sys.executable, "-m", __name__, str(end.fileno())],
        cwd=_PROJECT,  # from where Python imports, and not from where a user's files may lie
        env={"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore", **os.environ},
        stdin=subprocess.DEVNULL,
        pass_fds=[end.fileno()],
    )
    end.close()
    return program, control


os.register_at_fork(after_in_child=_program.cache_clear)  # it is its parent's


def _serve(pipe: Connection, answers: Callable[[list[bytes]], Iterator[Any]]) -> None:
    """Of a process: answers for the files that it is sent, until the other one has ended."""
    try:
        while True:
            files = [pipe.recv_bytes() for _ in range(pipe.recv())]
            for data, answer in zip(files, answers(files), strict=False):
                is_reject = isinstance(answer, RejectedError)
                pipe.send((answer.stage, answer.reason) if is_reject else _without_file(answer, data))
    except (EOFError, ConnectionError):
        return


def _without_file(answer: Any, data: bytes) -> Any:
    """What to send of an answer that has the bytes of the file: those need not come back. See `_with_file`."""
    if isinstance(answer, ReadImage):
        return dataclasses.replace(answer, encoded=_without_file(answer.encoded, data))
    return b"" if answer is data else answer


def _with_file(answer: Any, data: bytes) -> Any:
    if isinstance(answer, ReadImage):
        return dataclasses.replace(answer, encoded=_with_file(answer.encoded, data))
    return data if answer == b"" else answer


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


def _decode(pipe: Connection, others: Connection, read: Read[Any], limits: ImageLimits) -> None:
    """Of the process that decodes."""
    others.close()  # inherited: held open here, it would never tell that the other one has been killed
    _end_by_signals()
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # decoding needs none, and another process may hold the GPU's memory
    if sys.platform == "linux":
        taken = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()  # see proc(5)
        pixels = max(limits.pixels, DEFAULT_LIMITS.pixels)
        _limit(resource.RLIMIT_DATA, taken + _BYTES + _BYTES_A_PIXEL * pixels + _FILES * limits.file_bytes)
    _limit(resource.RLIMIT_CORE, 0)

    def answer(data: bytes) -> Any:
        try:
            return read(data, limits, parallel.room)
        except RejectedError as error:
            return error
        except Exception as error:
            if cause_of(error).blame == "machine":  # no memory is left, which another file may have taken
                os._exit(_NO_MEMORY)
            _LOG.exception("an image could not be read")
            return error

    def answers(files: list[bytes]) -> Iterator[Any]:
        _limit_cpu()
        for answered in parallel.ordered_map(answer, files):
            yield answered
            _limit_cpu()

    _serve(pipe, answers)


def _have_decoded(pipe: Connection, read: Read[Any], limits: ImageLimits) -> None:
    """Of the program's forks, each for a `_Process` of the one that asks."""

    def answers(files: list[bytes]) -> Iterator[Any]:
        try:
            yield from decoder.read(files)
        except Exception as error:
            yield error

    with Decoder(read, limits) as decoder:
        _serve(pipe, answers)


def _fork_decoders(control: Connection) -> None:
    """Of the program; it ends when the one that asks has."""
    _end_by_signals()
    try:
        while True:
            read, limits = control.recv()
            with Connection(reduction.recv_handle(control)) as pipe:
                _CONTEXT.Process(target=_have_decoded, args=(pipe, read, limits)).start()
    except EOFError:
        return


def _end_by_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _limit_cpu() -> None:
    _limit(resource.RLIMIT_CPU, int(time.process_time()) + 1 + _CPU_SECONDS)


def _limit(what: int, most: int) -> None:
    """What is lower already stays."""
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    _fork_decoders(Connection(int(sys.argv[1])))
