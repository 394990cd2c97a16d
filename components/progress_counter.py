"""Counts what a Beam worker has finished and says so, a few times a second at most."""

from __future__ import annotations

import time

from trainer import progress

_SECONDS = 0.3


class ProgressCounter:
    """One worker process's count; on a cluster each worker reports its own share of the total."""

    def __init__(self, total: int | None, unit: str, note: str = "") -> None:
        """See `trainer.progress.report`."""
        self._total = total
        self._unit = unit
        self._note = note
        self._done = 0
        self._reported = float("-inf")

    def add(self, number: int) -> None:
        """`number` more are finished. Reports the first, the last, and now and then one between."""
        self._done += number
        now = time.monotonic()
        if now - self._reported >= _SECONDS or self._done == self._total:
            self._reported = now
            progress.report(self._done, self._total, self._unit, self._note)
