"""How a long-running step says how far it is: a log record that a console may draw and a cluster may print."""

from __future__ import annotations

import logging
import time

LOGGER_NAME = "progress"

_SECONDS = 0.3


def report(done: int, total: int | None, unit: str, note: str = "") -> None:
    """Says how many units ("images", "steps") the running stage has finished, of how many, if that is known."""
    logging.getLogger(LOGGER_NAME).info(
        "%d%s %s %s",
        done,
        f"/{total}" if total else "",
        unit,
        note,
        extra={"progress": {"done": done, "total": total, "unit": unit, "note": note}},
    )


class ProgressCounter:
    """What one worker process has finished, said a few times a second at most.

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
        """`number` more are finished. Reports the first, the last, and now and then one between."""
        self._done += number
        now = time.monotonic()
        if now - self._reported >= _SECONDS or self._done == self._total:
            self._reported = now
            report(self._done, self._total, self._unit, self._note)
