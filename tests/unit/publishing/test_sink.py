"""The sink: each event ends in the hub, in the outbox or in the log, whatever fails."""

import asyncio
import json
import logging
from collections.abc import Sequence
from copy import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.errors import PublishFailed
from meter.ledger.decode import decode
from meter.publishing.sink import HUB_TURNS, MAX_PENDING, MAX_UNAWAITED, PublishingSink
from meter.usage import UsageEvent, encode_event
from tests.fakes.gateway import FixedDice
from tests.fakes.publishing import FakeHub, FakeOutbox
from tests.fakes.virtual_time import LoopClock, VirtualTimeLoop
from tests.support.events import NOW, RETENTION, raw_message, usage_event

TIMEOUT_SECONDS = 1.0
OUTBOX_SECONDS = 5.0


def sink_on(hub: FakeHub, outbox: FakeOutbox, *, waits: bool = True) -> PublishingSink:
    return PublishingSink(
        hub,
        outbox,
        clock=LoopClock(),
        dice=FixedDice(1.0),
        acknowledge_timeout_seconds=TIMEOUT_SECONDS,
        waits_for_acknowledgement=waits,
    )


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
def outbox() -> FakeOutbox:
    return FakeOutbox()


def logged(caplog: pytest.LogCaptureFixture) -> list[UsageEvent]:
    """The events that stand in the log in full."""
    bodies = [
        record.getMessage().removeprefix("usage_event_unpublished event=").encode()
        for record in caplog.records
        if record.levelno == logging.CRITICAL
    ]
    found = decode([raw_message(body) for body in bodies], now=NOW, retention=RETENTION)
    assert not found.dead_letters
    return [event for event in found.events if isinstance(event, UsageEvent)]


async def publishing_seconds(sink: PublishingSink, event: UsageEvent) -> float:
    """How long the call waits."""
    begun = asyncio.get_running_loop().time()
    await sink.publish(event)
    return asyncio.get_running_loop().time() - begun


async def test_publishing_returns_when_the_hub_has_acknowledged(
    hub: FakeHub, outbox: FakeOutbox
) -> None:
    """Not before: the last byte of an answer waits for it."""
    hub.takes_seconds = 0.5
    took = await publishing_seconds(sink_on(hub, outbox), usage_event(1))

    assert took == 0.5
    assert hub.took == [encode_event(usage_event(1))]
    assert outbox.kept == []


async def test_an_event_that_the_hub_refuses_is_kept(hub: FakeHub, outbox: FakeOutbox) -> None:
    """The caller notices nothing."""
    hub.refuse()
    await sink_on(hub, outbox).publish(usage_event(1))

    assert outbox.kept == [usage_event(1)]


async def test_an_event_that_the_hub_is_slow_to_take_is_kept(
    hub: FakeHub, outbox: FakeOutbox
) -> None:
    """A call does not wait longer than the timeout."""
    hub.takes_seconds = 3600
    took = await publishing_seconds(sink_on(hub, outbox), usage_event(1))

    assert took == TIMEOUT_SECONDS
    assert outbox.kept == [usage_event(1)]


class HeardLate(FakeHub):
    """Acknowledges at once, of which the event loop hears some turns later."""

    async def send(self, subject: str, events: Sequence[bytes]) -> None:
        for _ in range(HUB_TURNS // 2):
            await asyncio.sleep(0)
        await super().send(subject, events)


async def test_an_answer_that_a_busy_loop_hears_late_is_no_fault_of_the_hubs(
    outbox: FakeOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Its seconds have passed, but not in waiting for the hub."""
    hub = HeardLate()
    sink = sink_on(hub, outbox, waits=False)
    for number in range(10):
        await sink.publish(usage_event(number))
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.pass_by(5)
    await asyncio.sleep(1)

    assert hub.took == [encode_event(usage_event(number)) for number in range(10)]
    assert outbox.kept == []
    assert caplog.records == []


async def test_while_the_hub_is_known_to_be_down_calls_do_not_wait_for_it(
    hub: FakeHub, outbox: FakeOutbox
) -> None:
    """Three calls find out; the others pay for the outbox only, the probes among them too."""
    hub.takes_seconds = 3600
    sink = sink_on(hub, outbox)
    took = []
    for number in range(100):
        took.append(await publishing_seconds(sink, usage_event(number)))
        await asyncio.sleep(0.1)

    assert took == [TIMEOUT_SECONDS] * 3 + [0.0] * 97
    assert [event.id for event in outbox.kept] == [usage_event(n).id for n in range(100)]
    # The probes, ever farther apart: after 0.5, 1, 2 and 4 s, each a timeout later.
    assert len(hub.asked_at) == 3 + 3


async def test_a_hub_that_is_back_gets_all_events_again(hub: FakeHub, outbox: FakeOutbox) -> None:
    """One probe finds out, though its event is in the outbox already."""
    hub.refuse()
    sink = sink_on(hub, outbox)
    for number in range(3):
        await sink.publish(usage_event(number))
    hub.failure = None
    await asyncio.sleep(0.6)
    for number in range(3, 6):
        await sink.publish(usage_event(number))
        await asyncio.sleep(0.01)

    assert hub.took == [encode_event(usage_event(number)) for number in (3, 4, 5)]
    assert outbox.kept == [usage_event(number) for number in range(4)]


async def test_the_last_resort_before_the_log_is_the_hub_of_an_open_circuit(
    hub: FakeHub, outbox: FakeOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    """The hub comes back and storage goes, before a probe has noticed."""
    hub.refuse()
    sink = sink_on(hub, outbox)
    for number in range(3):
        await sink.publish(usage_event(number))
    hub.failure, outbox.is_down = None, True
    await sink.publish(usage_event(3))

    assert hub.took == [encode_event(usage_event(3))]
    assert logged(caplog) == []


async def test_a_probe_is_enough_where_the_outbox_fails(
    hub: FakeHub, outbox: FakeOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Its event is in the hub: it is not sent again, nor logged as lost."""
    hub.refuse()
    sink = sink_on(hub, outbox)
    for number in range(3):
        await sink.publish(usage_event(number))
    hub.failure, outbox.is_down = None, True
    await asyncio.sleep(0.6)
    await sink.publish(usage_event(3))

    assert hub.took == [encode_event(usage_event(3))]
    assert logged(caplog) == []


async def test_an_event_that_neither_takes_is_logged_in_full_and_once(
    hub: FakeHub, outbox: FakeOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    """The log is then the only place that knows of the call; publishing still does not raise."""
    hub.refuse()
    outbox.is_down = True
    await sink_on(hub, outbox).publish(usage_event(1, subject="zoë"))

    assert logged(caplog) == [usage_event(1, subject="zoë")]


async def test_a_caller_waits_no_longer_than_both_limits(
    hub: FakeHub, outbox: FakeOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Hub and storage hang: the timeout, then the outbox's five of it, then the log."""
    hub.takes_seconds = outbox.takes_seconds = 3600
    took = await publishing_seconds(sink_on(hub, outbox), usage_event(1))

    assert took == TIMEOUT_SECONDS + OUTBOX_SECONDS
    assert logged(caplog) == [usage_event(1)]


async def test_events_that_fail_together_are_kept_together(
    hub: FakeHub, outbox: FakeOutbox
) -> None:
    """Four writes at once, and the rest gathers meanwhile, at most a hundred in one."""
    hub.refuse()
    outbox.takes_seconds = 0.05
    sink = sink_on(hub, outbox)
    events = [usage_event(number) for number in range(250)]
    await asyncio.gather(*(sink.publish(event) for event in events))

    assert sorted(outbox.kept, key=lambda event: event.id) == events
    assert len(outbox.writes) <= 8
    assert max(map(len, outbox.writes)) == 100


async def test_a_caller_who_leaves_does_not_take_the_event_along(
    hub: FakeHub, outbox: FakeOutbox
) -> None:
    """Publishing continues although no call waits for it."""
    hub.takes_seconds = 0.5
    sink = sink_on(hub, outbox)
    publishing = asyncio.create_task(sink.publish(usage_event(1)))
    await asyncio.sleep(0.1)
    publishing.cancel()
    await sink.close(10)

    assert publishing.cancelled()
    assert hub.took == [encode_event(usage_event(1))]


async def test_in_the_background_publishing_returns_at_once_and_closing_waits(
    hub: FakeHub, outbox: FakeOutbox
) -> None:
    """`METER_DURABILITY=background`: nothing is lost in an orderly end."""
    hub.takes_seconds = 0.5
    sink = sink_on(hub, outbox, waits=False)
    took = [await publishing_seconds(sink, usage_event(number)) for number in range(3)]
    await sink.close(10)

    assert took == [0.0, 0.0, 0.0]
    assert len(hub.took) == 3


@pytest.mark.parametrize("is_slow", [False, True])
async def test_in_the_background_an_event_that_the_hub_does_not_take_is_kept(
    is_slow: bool, hub: FakeHub, outbox: FakeOutbox
) -> None:
    """At once where the hub refuses it, else after the timeout."""
    hub.takes_seconds = 3600 if is_slow else 0
    if not is_slow:
        hub.refuse()
    sink = sink_on(hub, outbox, waits=False)
    await sink.publish(usage_event(1))
    await asyncio.sleep(TIMEOUT_SECONDS - 0.1)
    before = list(outbox.kept)
    await asyncio.sleep(0.2)

    assert before == ([] if is_slow else [usage_event(1)])
    assert outbox.kept == [usage_event(1)]
    assert sink.pending == 0


async def test_in_the_background_events_skip_a_hub_that_is_known_to_be_down(
    hub: FakeHub, outbox: FakeOutbox
) -> None:
    """Three events find out; later ones are in the outbox at once, but for the probes' sake."""
    hub.takes_seconds = 3600
    sink = sink_on(hub, outbox, waits=False)
    for number in range(3):
        await sink.publish(usage_event(number))
    await asyncio.sleep(TIMEOUT_SECONDS + 0.1)
    await sink.publish(usage_event(3))
    await asyncio.sleep(0.1)

    assert sink.is_hub_circuit_open
    assert len(hub.asked_at) == 3
    assert [event.id for event in outbox.kept] == [usage_event(n).id for n in range(4)]


async def test_in_the_background_calls_wait_when_too_many_events_are_pending(
    hub: FakeHub, outbox: FakeOutbox
) -> None:
    """So what a kill can take is bounded, and so is the memory."""
    hub.takes_seconds = 0.5
    sink = sink_on(hub, outbox, waits=False)
    took = [await publishing_seconds(sink, usage_event(n)) for n in range(MAX_UNAWAITED + 1)]

    assert took == [0.0] * MAX_UNAWAITED + [0.5]


async def test_a_hundred_thousand_events_with_hub_and_storage_down_are_in_the_log(
    hub: FakeHub, outbox: FakeOutbox
) -> None:
    """All of them, in bounded memory and time; none is waited for longer than both limits."""
    hub.takes_seconds = outbox.takes_seconds = 3600
    sink = sink_on(hub, outbox)
    lines = _Lines()
    logger = logging.getLogger("meter.publishing.sink")
    logger.addHandler(lines)
    logger.propagate = False
    event = usage_event(1)
    begun = asyncio.get_running_loop().time()
    most = 0
    try:
        calls = []
        for number in range(100_000):
            calls.append(asyncio.create_task(sink.publish(event)))
            if number % 1000 == 0:
                await asyncio.sleep(0)
                most = max(most, len(asyncio.all_tasks()) - number)
        await asyncio.gather(*calls)
    finally:
        logger.removeHandler(lines)
        logger.propagate = True

    assert lines.unpublished == 100_000
    assert most <= MAX_PENDING + 10
    assert asyncio.get_running_loop().time() - begun <= TIMEOUT_SECONDS + OUTBOX_SECONDS


class _Lines(logging.Handler):
    """Counts the lines of events, so that the test itself does not keep them."""

    def __init__(self) -> None:
        super().__init__()
        self.unpublished = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.unpublished += record.getMessage().startswith("usage_event_unpublished event={")


async def test_closing_hurries_a_hub_that_hangs(hub: FakeHub, outbox: FakeOutbox) -> None:
    """The outbox must still have its turn before the process is killed."""
    hub.takes_seconds = 3600
    sink = PublishingSink(
        hub,
        outbox,
        clock=LoopClock(),
        dice=FixedDice(1.0),
        acknowledge_timeout_seconds=30,
        waits_for_acknowledgement=False,
    )
    await sink.publish(usage_event(1))
    await asyncio.sleep(1)
    begun = asyncio.get_running_loop().time()
    await sink.close(4)

    assert asyncio.get_running_loop().time() - begun == 1.0
    assert outbox.kept == [usage_event(1)]


async def test_closing_logs_what_is_not_safe_in_time(
    hub: FakeHub, outbox: FakeOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Hub and storage hang while the process ends."""
    hub.takes_seconds = outbox.takes_seconds = 3600
    sink = sink_on(hub, outbox, waits=False)
    await sink.publish(usage_event(1))
    begun = asyncio.get_running_loop().time()
    await sink.close(2)

    assert asyncio.get_running_loop().time() - begun <= 2
    assert logged(caplog) == [usage_event(1)]


async def test_a_call_that_ends_after_closing_is_not_lost(
    hub: FakeHub, outbox: FakeOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Publishing works as long as the process lives."""
    sink = sink_on(hub, outbox)
    await sink.close(4)
    hub.refuse()
    outbox.is_down = True
    await sink.publish(usage_event(1))

    assert logged(caplog) == [usage_event(1)]


def test_a_loop_that_ends_without_closing_logs_what_is_pending(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """asyncio cancels all tasks at the end: their events are in the log, once."""
    hub = FakeHub(takes_seconds=3600)

    async def end_early() -> None:
        sink = sink_on(hub, FakeOutbox(), waits=False)
        await sink.publish(usage_event(1))
        await asyncio.sleep(0.5)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(end_early())

    assert logged(caplog) == [usage_event(1)]


class Unforeseen:
    """A hub and an outbox that fail in unforeseen ways."""

    async def send(self, subject: str, events: Sequence[bytes]) -> None:
        raise RuntimeError("hub")

    async def keep(self, events: Sequence[UsageEvent]) -> None:
        raise ValueError("outbox")


@pytest.mark.parametrize("waits", [True, False])
async def test_unforeseen_faults_leave_the_event_in_the_log(
    waits: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Publishing never raises and never drops an event silently."""
    sink = PublishingSink(
        Unforeseen(),
        Unforeseen(),
        clock=LoopClock(),
        dice=FixedDice(1.0),
        acknowledge_timeout_seconds=TIMEOUT_SECONDS,
        waits_for_acknowledgement=waits,
    )
    await sink.publish(usage_event(1))
    await asyncio.sleep(0.1)

    assert logged(caplog) == [usage_event(1)]


@pytest.mark.parametrize("model", ["gpt", "\ud800"])
async def test_an_event_is_logged_without_its_callers_name(
    model: str, hub: FakeHub, outbox: FakeOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    """The last resort is for counting, which needs no name; hub and outbox have it."""
    event = usage_event(1, model=model)
    event = replace(event, principal=replace(event.principal, name="Ada Wong"))
    hub.refuse()
    outbox.is_down = True
    await sink_on(hub, outbox).publish(event)

    assert str(event.id) in caplog.text
    assert "Ada Wong" not in caplog.text


@pytest.mark.parametrize("waits", [True, False])
async def test_an_event_that_cannot_be_written_is_logged_as_it_is(
    waits: bool, hub: FakeHub, outbox: FakeOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect of ours must not fail the call, nor hide it."""
    event = usage_event(1, model="\ud800")
    await sink_on(hub, outbox, waits=waits).publish(event)
    await asyncio.sleep(0.1)

    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL]
    assert line.startswith("usage_event_unpublished event=UsageEvent(")
    assert str(event.id) in line


PLANS = st.lists(
    st.tuples(
        st.sampled_from(["takes", "refuses", "hangs"]),
        st.sampled_from(["keeps", "refuses", "hangs"]),
        st.floats(0, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


class Moody:
    """A hub and an outbox whose mood changes from call to call; all that they took."""

    def __init__(self) -> None:
        self.hub_mood, self.outbox_mood = "takes", "keeps"
        self.took: set[str] = set()

    async def send(self, subject: str, events: Sequence[bytes]) -> None:
        await self._answer(self.hub_mood)
        self.took |= {document["id"] for document in map(_document, events)}

    async def keep(self, events: Sequence[UsageEvent]) -> None:
        await self._answer(self.outbox_mood)
        self.took |= {str(event.id) for event in events}

    async def _answer(self, mood: str) -> None:
        await asyncio.sleep(3600 if mood == "hangs" else 0.01)
        if mood == "refuses":
            raise PublishFailed("no")


def _document(event: bytes) -> dict[str, str]:
    document: dict[str, str] = json.loads(event)
    return document


@given(plan=PLANS, waits=st.booleans(), closing=st.floats(0.1, 10))
def test_every_event_is_somewhere(
    plan: list[tuple[str, str, float, bool]], waits: bool, closing: float
) -> None:
    """Any course of failures, callers that leave, any time for closing: hub, outbox or log."""
    moody, lines = Moody(), _Ids()

    async def scenario() -> None:
        sink = PublishingSink(
            moody,
            moody,
            clock=LoopClock(),
            dice=FixedDice(0.5),
            acknowledge_timeout_seconds=TIMEOUT_SECONDS,
            waits_for_acknowledgement=waits,
        )
        for number, (hub_mood, outbox_mood, pause, leaves) in enumerate(plan):
            moody.hub_mood, moody.outbox_mood = hub_mood, outbox_mood
            call = asyncio.create_task(sink.publish(usage_event(number)))
            await asyncio.sleep(pause)
            if leaves:
                call.cancel()
        await sink.close(closing)

    logger = logging.getLogger("meter.publishing.sink")
    logger.addHandler(lines)
    try:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(scenario())
    finally:
        logger.removeHandler(lines)

    published = {str(usage_event(number).id) for number, step in enumerate(plan) if step[2] > 0}
    assert published <= moody.took | lines.seen


class _Ids(logging.Handler):
    """The ids of the events in the log."""

    def __init__(self) -> None:
        super().__init__(logging.CRITICAL)
        self.seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        event = record.getMessage().removeprefix("usage_event_unpublished event=")
        self.seen.add(_document(event.encode())["id"])
