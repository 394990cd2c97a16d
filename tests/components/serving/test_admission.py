"""Who sends nothing keeps nobody out."""

import asyncio

import pytest
import tensorflow as tf

from components.serving import admission
from components.serving.admission import Admission


async def never() -> bytes:
    await asyncio.Event().wait()
    return b""


async def at_once() -> bytes:
    return b"message"


async def hold(places: Admission, message: object, seconds: float = 10) -> bytes:
    with places.place() as place:
        read = await place.read(message(), seconds)  # type: ignore[operator]
        await asyncio.sleep(0.2)
        return read


def test_a_message_that_does_not_come_is_waited_for_so_long() -> None:
    with pytest.raises(tf.errors.DeadlineExceededError, match=r"did not come within 0\.1 s"):
        asyncio.run(hold(Admission(1), never, 0.1))


def test_a_newcomer_gets_the_place_of_what_is_late_but_of_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        places = Admission(2)
        stalled = [asyncio.ensure_future(hold(places, never)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(tf.errors.ResourceExhaustedError, match="the server is busy with 2 requests"):
            await hold(places, at_once)  # they have just begun
        monkeypatch.setattr(admission, "_GRACE_SECONDS", 0.5)
        await asyncio.sleep(0.6)
        served = [asyncio.ensure_future(hold(places, at_once)) for _ in range(3)]
        found = await asyncio.gather(*served, *stalled, return_exceptions=True)
        assert found[:2] == [b"message", b"message"]
        assert all(isinstance(error, tf.errors.ResourceExhaustedError) for error in found[2:])
        assert len(places) == 0

    asyncio.run(main())
