"""A caller has so many seconds for each write, and is written to until it has gone."""

import asyncio

from meter.gateway.answer.writing import Recipient
from tests.fakes.gateway import FakeCaller


class NotReading:
    """A caller that takes nothing."""

    def __init__(self) -> None:
        self.was_cancelled = False

    put = None

    async def write(self, data: bytes) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


async def test_a_caller_takes_what_is_written() -> None:
    """However often, and each write counts."""
    caller = FakeCaller()
    recipient = Recipient(caller, 30)

    assert [await recipient.write(b"x"), await recipient.write(b"y")] == [True, True]

    assert (caller.received, recipient.is_gone, recipient.writes) == (b"xy", False, 2)


async def test_a_caller_that_does_not_read_is_left_in_time() -> None:
    """Its write is cancelled, and it counts as gone."""
    caller = NotReading()
    recipient = Recipient(caller, 0.01)

    assert await recipient.write(b"x") is False

    assert (caller.was_cancelled, recipient.is_gone) == (True, True)


async def test_a_caller_that_has_gone_is_written_to_no_more() -> None:
    """It said so at once; later writes are counted only."""
    caller = FakeCaller(leaves_after=0)
    recipient = Recipient(caller, 30)
    await recipient.write(b"x")
    caller.leaves_after = 10

    assert await recipient.write(b"y") is False

    assert (caller.received, recipient.writes) == (b"", 2)
