"""Tries inputs by the thousand in processes that may crash, hang or grow, and says which did."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib
import multiprocessing
import os
import random
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from benchmarks.fuzz.target import Target

TARGETS = {
    "settings": "Settings",
    "tables": "Tables",
    "records": "Records",
    "images": "Images",
    "decoder": "Decoder",
    "requests": "Requests",
    "rest": "Rest",
}
"""Module and class."""

HANG_SECONDS = 120.0  # of wall time, on a machine that others use too; the bounds themselves are CPU time
MOST_MB = 6_000  # a process that has so much is ended before the machine is
_EVERY_SECONDS = 0.2
_MANY = 50  # findings of a target, after which it is given up


@dataclasses.dataclass
class Result:
    """What became of a target's inputs."""

    outcomes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    slowest: float = 0.0
    largest_mb: float = 0.0
    found: list[str] = dataclasses.field(default_factory=list)


def load_target(name: str) -> Target:
    """Makes a target; only then is what it needs imported."""
    return getattr(importlib.import_module(f"benchmarks.fuzz.{name}"), TARGETS[name])()


def make(target: Target, seed: int, number: int) -> bytes:
    """The input of a seed and a number."""
    return target.make(random.Random(f"{target.name} {seed} {number}"))


class Memory:
    """The peak of this process's memory, begun anew for each input."""

    def __init__(self) -> None:
        self._peaks = os.open("/proc/self/status", os.O_RDONLY)
        self._begin = os.open("/proc/self/clear_refs", os.O_WRONLY)
        self._before = 0.0

    def begin(self) -> None:
        """From here on."""
        os.pwrite(self._begin, b"5", 0)  # the peak is what there is now
        self._before = self._peak()

    def grown_mb(self) -> float:
        """By how much the peak is above what there was at the beginning."""
        return self._peak() - self._before

    def _peak(self) -> float:
        text = os.pread(self._peaks, 4096, 0)
        start = text.index(b"VmHWM:") + 6
        return int(text[start : text.index(b"kB", start)]) / 1024


def attempt(target: Target, data: bytes, memory: Memory) -> tuple[str, float, float]:
    """Tries one input: what became of it, its CPU seconds and by how many MB it raised the memory.

    Raises:
        Exception: what the target raised, or AssertionError if it took too much.
    """
    memory.begin()
    began = time.process_time()
    outcome = target.attempt(data)
    seconds, grown = time.process_time() - began, memory.grown_mb()
    assert seconds <= target.max_seconds, f"{seconds:.1f} CPU seconds"
    assert grown <= target.max_mb, f"{grown:.0f} MB"
    return outcome, seconds, grown


def _work(name: str, seed: int, numbers: range, at: Any, results: Connection) -> None:
    """Tries the inputs of these numbers; `at` is [number, monotonic time of its start], read by whoever watches."""
    target = load_target(name)
    with contextlib.closing(target):
        for data in target.seeds():  # imports everything, and fills what is cached
            target.attempt(data)
        with Path(os.devnull).open("wb") as nowhere:  # the decoders' own words for each damaged file
            os.dup2(nowhere.fileno(), 2)
        memory = Memory()
        outcomes: collections.Counter[str] = collections.Counter()
        slowest = largest = 0.0
        reported = time.monotonic()
        for number in numbers:
            data = make(target, seed, number)
            at[0], at[1] = number, time.monotonic()
            try:
                outcome, seconds, grown = attempt(target, data, memory)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                results.send(("found", number, words(error)))
            else:
                outcomes[outcome] += 1
                slowest, largest = max(slowest, seconds), max(largest, grown)
            if at[1] - reported > 1:
                results.send(("so far", outcomes, slowest, largest))
                outcomes, reported = collections.Counter(), at[1]
        at[1] = 0.0
        results.send(("so far", outcomes, slowest, largest))
    results.send(("done",))


def words(error: BaseException) -> str:
    """What was raised, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {str(error)[:300]}{where}"


class _Worker:
    """A process and the numbers it has left."""

    def __init__(self, name: str, seed: int, numbers: range) -> None:
        self.numbers = numbers
        context = multiprocessing.get_context("spawn")
        self.at = context.Array("d", [-1.0, 0.0], lock=False)
        self.results, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(name, seed, numbers, self.at, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def fault(self) -> str:
        """Why it must be ended; empty if it must not."""
        if self.at[1] and time.monotonic() - self.at[1] > HANG_SECONDS:
            return f"hangs for {HANG_SECONDS:.0f} s"
        with contextlib.suppress(OSError):
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
            if pages * os.sysconf("SC_PAGESIZE") > MOST_MB * 2**20:
                return f"takes more than {MOST_MB:,} MB"
        return ""

    def rest(self) -> range:
        """The numbers behind the one it ended at."""
        return range(int(self.at[0]) + self.numbers.step, self.numbers.stop, self.numbers.step)


def fuzz(
    name: str, seed: int, first: int, inputs: int, workers: int, seconds: float
) -> Iterator[tuple[int, str] | Result]:
    """Tries the inputs from `first` on until all are tried or the time is up; yields each fault, at last the result."""
    result, end = Result(), time.monotonic() + seconds
    shares = [range(first + worker, first + inputs, workers) for worker in range(min(workers, inputs))]
    running = [_Worker(name, seed, share) for share in shares]
    try:
        while running and time.monotonic() < end and len(result.found) < _MANY:
            wait([worker.results for worker in running], _EVERY_SECONDS)
            for worker in list(running):
                ended = fault = ""
                try:
                    while not ended and worker.results.poll():
                        kind, *rest = worker.results.recv()
                        if kind == "found":
                            result.found.append(rest[1])
                            yield rest[0], rest[1]
                        elif kind == "so far":
                            result.outcomes.update(rest[0])
                            result.slowest = max(result.slowest, rest[1])
                            result.largest_mb = max(result.largest_mb, rest[2])
                        else:
                            ended = kind
                except EOFError:
                    worker.process.join()
                    fault = f"ends the process: exit code {worker.process.exitcode}"
                fault = fault or worker.fault()
                if ended or fault:
                    running.remove(worker)
                    worker.process.kill()
                    worker.process.join()
                if fault and worker.at[0] < 0:
                    raise RuntimeError(f"{name}: the process ends before its first input ({fault})")
                if fault:
                    result.found.append(fault)
                    yield int(worker.at[0]), fault
                    if rest_of := worker.rest():
                        running.append(_Worker(name, seed, rest_of))
    finally:
        for worker in running:
            worker.process.kill()
            worker.process.join()
    yield result
