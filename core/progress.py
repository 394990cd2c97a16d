"""How a long-running step reports its progress: as log records that a console draws and a cluster prints."""

from __future__ import annotations

import logging
import time

LOGGER_NAME = "progress"

_SECONDS = 0.3


def report(done: int, total: int | None, unit: str, note: str = "") -> None:
    """Reports how many units ("images", "steps") the running stage has finished, of how many, if that is known."""
    logging.getLogger(LOGGER_NAME).info(
        "%d%s %s %s",
        done,
        f"/{total}" if total else "",
        unit,
        note,
        extra={"progress": {"done": done, "total": total, "unit": unit, "note": note}},
    )


class ProgressCounter:
    """Counts what one worker process has finished, and reports it a few times a second at most.

    On a cluster each worker reports its own share of the total.
    """

    def __init__(self, total: int | None, unit: str, note: str = "") -> None:
        """See `report`."""
        self._total = total
        self._unit = unit
        self._note = note
        self._done = 0
        self._reported = float("-inf")

    def add(self, number: int) -> None:
        """Adds `number` to the count. Reports the first, the last, and some in between."""
        self._done += number
        now = time.monotonic()
        if now - self._reported >= _SECONDS or self._done == self._total:
            self._reported = now
            report(self._done, self._total, self._unit, self._note)
