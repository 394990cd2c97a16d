"""Admits a limited number of requests at a time, and none for long without its message.

A stream that opens and sends nothing, or never reads its answer, costs its sender nothing, so it must not cost others
their place. If all places are taken, a newcomer gets that of the client that the server has waited for longest; if it
has waited for none longer than a second, that of the address that keeps it waiting in the most places, so that an
address that keeps opening streams locks nobody else out.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import Awaitable, Iterator
from typing import TypeVar

import tensorflow as tf

T = TypeVar("T")

_GRACE_SECONDS = 1.0  # that any client is waited for, where others want the place


class Admission:
    """The places of a server; to be used in one event loop."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken: dict[Place, None] = {}  # in the order they came

    def __len__(self) -> int:
        return len(self._taken)

    @contextlib.contextmanager
    def place(self, address: str) -> Iterator[Place]:
        """A place for a client until the block ends.

        Raises:
            tf.errors.ResourceExhaustedError: there is no place.
        """
        if len(self._taken) >= self._places:
            self._make_room(address)
        place = Place(address)
        self._taken[place] = None
        try:
            yield place
        finally:
            self._taken.pop(place, None)

    def _make_room(self, address: str) -> None:
        waited_for = sorted((place for place in self._taken if place.is_waited_for), key=lambda place: place.since)
        held = collections.Counter(place.address for place in waited_for)
        greediest = max(held, key=held.__getitem__, default="")
        for place in waited_for:
            if place.is_late or (place.address == greediest and held[greediest] > held[address] + 1):
                del self._taken[place]
                place.give_up()
                return
        raise tf.errors.ResourceExhaustedError(None, None, f"the server is busy with {self._places} requests")


class Place:
    """One request's place; `address` is the client's, and `since` is when the server began to wait for it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.since = time.monotonic()
        self._waiting: asyncio.Future | None = None
        self._given_up = False

    @property
    def is_waited_for(self) -> bool:
        """Whether it is the client's turn."""
        return self._waiting is not None

    @property
    def is_late(self) -> bool:
        """Whether the client is overdue."""
        return self.is_waited_for and time.monotonic() - self.since > _GRACE_SECONDS

    def give_up(self) -> None:
        """Stops waiting for the client, since another request has the place."""
        self._given_up = True
        if self._waiting:
            self._waiting.cancel()

    async def wait_for(self, client: Awaitable[T], seconds: float, what: str = "message did not come") -> T:
        """What the client sends, or that it has taken an answer.

        Raises:
            tf.errors.DeadlineExceededError: it did not within `seconds`.
            tf.errors.ResourceExhaustedError: the place was given to another.
        """
        self.since = time.monotonic()
        self._waiting = asyncio.ensure_future(client)
        try:
            return await asyncio.wait_for(self._waiting, seconds)
        except asyncio.TimeoutError:
            raise tf.errors.DeadlineExceededError(None, None, f"the request's {what} within {seconds:.1f} s") from None
        except asyncio.CancelledError:
            if not self._given_up:
                raise
            raise tf.errors.ResourceExhaustedError(
                None, None, f"the server is busy, and the request's {what}"
            ) from None
        finally:
            self._waiting = None
