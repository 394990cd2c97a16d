"""Who may send a request: so many at a time, and none of them for long without its message.

A stream that opens and sends nothing costs its sender nothing, so it must not cost others their place: where all places
are taken, a newcomer gets that of the one whose message has been missing longest.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Iterator
from typing import TypeVar

import tensorflow as tf

T = TypeVar("T")

_GRACE_SECONDS = 1.0  # in which a message is expected to have arrived, where others wait for the place


class Admission:
    """The places of a server; used in one event loop."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken: dict[Place, None] = {}  # in the order they came

    def __len__(self) -> int:
        return len(self._taken)

    @contextlib.contextmanager
    def place(self) -> Iterator[Place]:
        """A place, until the block ends.

        Raises:
            tf.errors.ResourceExhaustedError: there is none.
        """
        if len(self._taken) >= self._places:
            self._make_room()
        place = Place()
        self._taken[place] = None
        try:
            yield place
        finally:
            self._taken.pop(place, None)

    def _make_room(self) -> None:
        oldest = next((place for place in self._taken if place.is_late()), None)
        if oldest is None:
            raise tf.errors.ResourceExhaustedError(None, None, f"the server is busy with {self._places} requests")
        del self._taken[oldest]
        oldest.give_up()


class Place:
    """One request's place."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._reading: asyncio.Future | None = None
        self._given_up = False

    def is_late(self) -> bool:
        """Whether its message should have been here."""
        return self._reading is not None and time.monotonic() - self._since > _GRACE_SECONDS

    def give_up(self) -> None:
        """Ends the reading: another request has the place."""
        self._given_up = True
        if self._reading:
            self._reading.cancel()

    async def read(self, message: Awaitable[T], seconds: float) -> T:
        """The message, once it is here.

        Raises:
            tf.errors.DeadlineExceededError: it did not come within `seconds`.
            tf.errors.ResourceExhaustedError: the place was given to another.
        """
        self._reading = asyncio.ensure_future(message)
        try:
            return await asyncio.wait_for(self._reading, seconds)
        except asyncio.TimeoutError:
            raise tf.errors.DeadlineExceededError(
                None, None, f"the request's message did not come within {seconds:.1f} s"
            ) from None
        except asyncio.CancelledError:
            if not self._given_up:
                raise
            raise tf.errors.ResourceExhaustedError(
                None, None, "the server is busy, and the request's message had not come"
            ) from None
        finally:
            self._reading = None
