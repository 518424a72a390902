"""What a call holds is given back once, the latest first, whatever happens meanwhile."""

from collections.abc import Callable

import pytest

from meter.gateway.limits.holds import AnswerHolds, Holds
from meter.gateway.limits.quota import Quota


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


class Entered:
    """A call of alice's, beside another of hers, with all that a call may hold."""

    def __init__(self) -> None:
        self.slots, self.bytes = Quota(9), Quota(900)
        for quota, amount in ((self.slots, 1), (self.bytes, 100)):
            quota.holding("alice").grow(amount)
        self.holds = Holds(self.slots.holding("alice"), self.bytes.holding("alice"))
        self.holds.slot.grow(1)
        self.holds.body.grow(50)

    @property
    def used(self) -> list[int]:
        return [number for q in (self.slots, self.bytes) for number in (q.used, q.held_by("alice"))]


def test_a_call_gives_back_what_it_holds_once() -> None:
    """Also when it is closed again, and nothing of what others hold."""
    entered, returned = Entered(), Returned()
    entered.holds.close_form = returned.giving("form")
    assert entered.used == [2, 2, 150, 150]

    entered.holds.close()
    entered.holds.close()

    assert returned.names == ["form"]
    assert entered.used == [1, 1, 100, 100]


def test_what_was_given_back_before_is_not_given_back_again() -> None:
    """The bytes of a body go as soon as no backend can need them."""
    entered = Entered()

    entered.holds.body.give_back()
    assert entered.used == [2, 2, 100, 100]
    entered.holds.close()

    assert entered.used == [1, 1, 100, 100]


def test_a_form_is_closed_while_its_bytes_and_slot_are_held() -> None:
    """The latest is given back first: nobody enters before the spool is gone."""
    entered = Entered()
    seen: list[list[int]] = []
    entered.holds.close_form = lambda: seen.append(entered.used)

    entered.holds.close()

    assert seen == [[2, 2, 150, 150]]


def test_a_fault_keeps_nothing_back() -> None:
    """It is raised once the others are given back, and the form is not closed again."""
    entered, returned = Entered(), Returned()
    entered.holds.close_form = returned.giving("form", ValueError("form"))

    with pytest.raises(ValueError, match="form"):
        entered.holds.close()
    entered.holds.close()

    assert returned.names == ["form"]
    assert entered.used == [1, 1, 100, 100]


def test_closing_again_meanwhile_gives_back_once() -> None:
    """What closes the form may end the call."""
    entered, returned = Entered(), Returned()

    def close_form() -> None:
        returned.giving("form")()
        entered.holds.close()

    entered.holds.close_form = close_form
    entered.holds.close()

    assert returned.names == ["form"]
    assert entered.used == [1, 1, 100, 100]


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
