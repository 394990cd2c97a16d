"""Reads images on all cores of a worker process, within the memory that one of the largest takes.

Decoding, resizing and hashing release Python's interpreter lock, so threads suffice. Concurrent work is limited by its
pixels, which all threads of a process count together, on any engine.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from core.image_limits import DEFAULT_LIMITS

_MOST_THREADS = 16
_PIXELS = DEFAULT_LIMITS.pixels  # in memory at the same time; more if a single image has more

BATCH_BYTES = 64 * 2**20
"""Of the encoded images of a batch; a single one may have more."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_changed = threading.Condition()
_taken: list[int] = []


@contextlib.contextmanager
def room(pixels: int) -> Iterator[None]:
    """Waits until that many pixels may be in memory besides those of other threads; a single image always may."""
    with _changed:
        _changed.wait_for(lambda: not _taken or sum(_taken) + pixels <= _PIXELS)
        _taken.append(pixels)
    try:
        yield
    finally:
        with _changed:
            _taken.remove(pixels)
            _changed.notify_all()


def batches(items: Iterable[_Item], size: int, length: Callable[[_Item], int]) -> Iterator[list[_Item]]:
    """Neighbors, in order: at most `size`, and of no more bytes together, by their lengths, than `BATCH_BYTES`."""
    batch: list[_Item] = []
    held = 0
    for item in items:
        more = length(item)
        if batch and (len(batch) == size or held + more > BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += more
    if batch:
        yield batch


def ordered_map(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Like `map`, in order, but on all cores, and only a few items ahead of the consumer."""
    pool, threads = _pool()
    waiting: collections.deque[Future[_Result]] = collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@functools.cache
def _pool() -> tuple[ThreadPoolExecutor, int]:
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    threads = min(allowed, _MOST_THREADS)
    return ThreadPoolExecutor(threads, "images"), threads


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
