"""Reading settings again: what is applied, what is refused, and what is said of it."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.errors import InvalidSettings, Problem
from meter.reloading.document import Document, DocumentUnread
from meter.reloading.reload import REMIND_SECONDS, Reload, Reloading
from tests.fakes.gateway import FakeClock, FixedDice

BAD = "bad"


@dataclass
class FakeSource:
    """A document whose version is how often it was changed; None: it cannot be read."""

    text: str | None
    location: str = "backends.json"
    changes: int = 0
    whole_reads: int = 0

    def change(self, text: str | None) -> None:
        self.text, self.changes = text, self.changes + 1

    async def read(self, known: str | None) -> Document | None:
        if self.text is None:
            raise DocumentUnread(f"{self.location}: gone")
        if known == str(self.changes):
            return None
        self.whole_reads += 1
        return Document(self.text, str(self.changes))


@dataclass
class Applied:
    """What is in use; `bad` texts are refused."""

    texts: Mapping[str, str] = field(default_factory=dict)
    times: int = 0

    async def __call__(self, texts: Mapping[str, str]) -> str:
        if BAD in texts.values():
            raise InvalidSettings([Problem("METER_BACKENDS", "is bad", "very")])
        if texts == self.texts:
            return ""
        self.texts, self.times = dict(texts), self.times + 1
        return "changed a"


def reload_of(*sources: FakeSource) -> tuple[Reload, Applied, FakeClock]:
    applied, clock = Applied(), FakeClock()
    made = Reload(setting="METER_BACKENDS", sources=sources, apply=applied, clock=clock)
    return made, applied, clock


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    found = [(record.levelno, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return found


async def test_a_new_document_is_applied_once(caplog: pytest.LogCaptureFixture) -> None:
    """An unchanged one is not even read."""
    caplog.set_level(logging.INFO)
    source = FakeSource("one")
    made, applied, _ = reload_of(source)
    for _ in range(3):
        await made.check()
    source.change("two")
    for _ in range(3):
        await made.check()

    assert (applied.times, source.whole_reads) == (2, 2)
    assert applied.texts == {"backends.json": "two"}
    assert (
        lines(caplog) == [(logging.INFO, "reloaded setting=METER_BACKENDS changes=changed a")] * 2
    )


async def test_a_bad_document_leaves_the_last_good_one(caplog: pytest.LogCaptureFixture) -> None:
    """With a line of level error, again after ten minutes; and it is not read again meanwhile."""
    source = FakeSource("one")
    made, applied, clock = reload_of(source)
    await made.check()
    source.change(BAD)
    for _ in range(5):
        await made.check()
    said = lines(caplog)
    clock.advance(REMIND_SECONDS)
    await made.check()

    line = (
        logging.ERROR,
        "reload_refused setting=METER_BACKENDS problems=METER_BACKENDS is bad (very)",
    )
    assert (said, lines(caplog)) == ([line], [line])
    assert applied.texts == {"backends.json": "one"}
    assert (source.whole_reads, made.problems) == (2, "METER_BACKENDS is bad (very)")


async def test_a_repaired_document_is_applied(caplog: pytest.LogCaptureFixture) -> None:
    """And nothing more is said of the bad one."""
    source = FakeSource(BAD)
    made, applied, clock = reload_of(source)
    await made.check()
    source.change("two")
    await made.check()
    lines(caplog)
    clock.advance(REMIND_SECONDS)
    await made.check()

    assert (applied.texts, made.problems, lines(caplog)) == ({"backends.json": "two"}, None, [])


async def test_a_document_that_cannot_be_read_leaves_the_last_good_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A warning; when it is there again, unchanged, nothing is to do."""
    source = FakeSource("one")
    made, applied, _ = reload_of(source)
    await made.check()
    text, source.text = source.text, None
    await made.check()
    said = lines(caplog)
    source.text = text
    await made.check()

    assert said == [
        (logging.WARNING, "reload_failed setting=METER_BACKENDS reason=backends.json: gone")
    ]
    assert (applied.times, lines(caplog)) == (1, [])


async def test_all_documents_of_a_setting_are_applied_together() -> None:
    """Also those that have not changed."""
    one, two = FakeSource("one", "1.csv"), FakeSource("two", "2.csv")
    made, applied, _ = reload_of(one, two)
    await made.check()
    two.change("new")
    await made.check()

    assert applied.texts == {"1.csv": "one", "2.csv": "new"}


@given(st.lists(st.sampled_from(["good a", "good b", BAD, None, "same"]), max_size=30))
async def test_the_last_good_document_is_in_use(changes: list[str | None]) -> None:
    """After any sequence of good, bad, missing and unchanged ones."""
    source = FakeSource("first")
    made, applied, _ = reload_of(source)
    await made.check()
    last_good = "first"
    for change in changes:
        if change != "same":
            source.change(change)
        await made.check()
        if change not in {"same", BAD, None}:
            last_good = str(change)

        assert applied.texts == {"backends.json": last_good}


async def test_instances_do_not_read_together() -> None:
    """The pause is shorter or longer by up to a tenth, by chance."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise asyncio.CancelledError

    reloading = Reloading(reloads=[], seconds=60, dice=FixedDice(0.25), pause=pause)
    with pytest.raises(asyncio.CancelledError):
        await reloading.run()

    assert pauses == pytest.approx([57.0, 57.0])


async def test_a_defect_does_not_end_reloading(caplog: pytest.LogCaptureFixture) -> None:
    """The others are still looked at, and it is said."""
    source, rounds = FakeSource("one"), 0
    good, applied, clock = reload_of(source)

    async def break_down(_: Mapping[str, str]) -> str:
        raise ZeroDivisionError

    broken = Reload(
        setting="METER_LIMITS", sources=[FakeSource("x")], apply=break_down, clock=clock
    )

    async def pause(_: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            raise asyncio.CancelledError

    reloading = Reloading(reloads=[broken, good], seconds=1, dice=FixedDice(0.5), pause=pause)
    with pytest.raises(asyncio.CancelledError):
        await reloading.run()

    assert applied.texts == {"backends.json": "one"}
    assert [text for _, text in lines(caplog)] == [
        "reload_failed_unexpectedly setting=METER_LIMITS"
    ] * 2


@pytest.mark.parametrize("seconds", [0.0, 60.0])
async def test_nothing_runs_where_there_is_nothing_to_read(seconds: float) -> None:
    """Nor where never is the time for it; closing is possible all the same."""
    made, _, _ = reload_of(FakeSource("one"))
    reloading = Reloading(reloads=[made] if not seconds else [], seconds=seconds, dice=FixedDice())
    before = len(asyncio.all_tasks())
    reloading.start()
    after = len(asyncio.all_tasks())
    await reloading.close()

    assert before == after
