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


async def hold(places: Admission, message: object, seconds: float = 10, address: str = "") -> bytes:
    with places.place(address) as place:
        read = await place.wait_for(message(), seconds)  # type: ignore[operator]
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


def test_an_address_that_opens_streams_all_the_time_keeps_no_other_one_out() -> None:
    async def main() -> None:
        places = Admission(4)
        flood = [asyncio.ensure_future(hold(places, never, address="a")) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(tf.errors.ResourceExhaustedError, match="the server is busy with 4 requests"):
            await hold(places, at_once, address="a")
        assert await hold(places, at_once, address="b") == b"message"
        slow = [asyncio.ensure_future(hold(places, never, address="b")) for _ in range(3)]
        await asyncio.sleep(0.05)
        # Each has two places now, and no more.
        assert [task.done() for task in flood] == [True, True, False, False]
        with pytest.raises(tf.errors.ResourceExhaustedError):
            await slow[2]
        for task in [*flood, *slow]:
            task.cancel()
        await asyncio.gather(*flood, *slow, return_exceptions=True)
        assert len(places) == 0

    asyncio.run(main())


def test_an_answer_that_is_not_taken_holds_its_place_until_another_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_GRACE_SECONDS", 0.1)

    async def answer(places: Admission) -> None:
        with places.place("") as place:
            await place.wait_for(at_once(), 10)
            await asyncio.sleep(0.2)  # computing is none of the client's time
            await place.wait_for(never(), 10, "answer was not taken")

    async def main() -> None:
        places = Admission(1)
        stuck = asyncio.ensure_future(answer(places))
        await asyncio.sleep(0.25)
        with pytest.raises(tf.errors.ResourceExhaustedError, match="busy with 1"):
            await hold(places, at_once)
        await asyncio.sleep(0.1)
        assert await hold(places, at_once) == b"message"
        with pytest.raises(tf.errors.ResourceExhaustedError, match="busy, and the request's answer was not taken"):
            await stuck

    asyncio.run(main())
