"""What a call holds is given back once, the latest first, whatever happens meanwhile."""

from collections.abc import Callable

import pytest

from meter.gateway.limits.holds import AnswerHolds, Holds


class Returned:
    """Remembers what was given back, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def giving(self, name: str, fault: Exception | None = None) -> Callable[[], None]:
        def give_back() -> None:
            self.names.append(name)
            if fault is not None:
                raise fault

        return give_back


def test_the_latest_is_given_back_first_and_each_once() -> None:
    """Also when it is closed again."""
    returned = Returned()
    with Holds() as holds:
        holds.callback(returned.giving("slot"))
        holds.callback(returned.giving("bytes"))

    holds.close()

    assert returned.names == ["bytes", "slot"]


def test_who_takes_all_gives_it_back() -> None:
    """What is taken over outlives the block."""
    returned = Returned()
    with Holds() as holds:
        holds.callback(returned.giving("slot"))
        taken = holds.pop_all()

    assert returned.names == []
    taken.close()
    assert returned.names == ["slot"]


def test_a_fault_keeps_nothing_back() -> None:
    """The others are given back, and the fault is raised with the one before it."""
    returned = Returned()
    holds = Holds()
    holds.callback(returned.giving("first", ValueError("first")))
    holds.callback(returned.giving("second"))
    holds.callback(returned.giving("third", ZeroDivisionError("third")))

    with pytest.raises(ValueError, match="first") as raised:
        holds.close()

    assert isinstance(raised.value.__context__, ZeroDivisionError)
    assert returned.names == ["third", "second", "first"]


def test_what_is_taken_while_it_is_closed_is_given_back() -> None:
    """A callback may hold more."""
    returned = Returned()
    holds = Holds()
    holds.callback(lambda: holds.callback(returned.giving("late")))

    holds.close()

    assert returned.names == ["late"]


async def test_what_an_answer_holds_is_given_back_in_order() -> None:
    """Whether it takes a wait or not, once, and the rest behind a fault."""
    returned = Returned()

    async def connection() -> None:
        returned.giving("connection")()

    async def chunks() -> None:
        returned.giving("chunks", ValueError("chunks"))()

    holds = AnswerHolds(connection, chunks)
    holds.callback(returned.giving("lease"))
    with pytest.raises(ValueError, match="chunks"):
        async with holds:
            pass
    await holds.close()

    assert returned.names == ["lease", "chunks", "connection"]
