"""The ledger as a state machine: through any deliveries, losses, repeats and kills, sums equal a model."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from meter.adjustment import Adjustment, Countable
from meter.errors import StorageUnavailable
from meter.ledger.aggregator import Aggregator
from meter.ledger.fold import Sums, fold
from meter.ledger.keys import (
    MARK_PREFIX,
    SumKey,
    call_row_key,
    ledger_partition,
    view_window,
)
from meter.ledger.marks import ABANDONED_AFTER
from meter.ledger.packing.packed import OPEN_COLUMNS
from meter.ledger.rows import read_revision, read_sums
from meter.ports import Conflict, Row, Written
from meter.upkeep.rebuild import Rebuild
from meter.upkeep.sweep import Sweep
from meter.usage import Outcome, TokenUsage, UsageSource
from meter.window import Window
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import adjustment, message, usage_event
from tests.support.ledger import (
    dimensions,
    new_writer,
    subjects_of_one_bucket,
    sums_in_ledger,
)

MONTH_END = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)
DIMENSION_COLUMNS = ("Subject", "ClientApp", "Deployment", "Model", "Backend", "Tier", "Context")
VIEWS = ("UsageByHour", "UsageByDay", "UsageByMonth")
# The last one shares the ledger partition of alice, and some transactions.
SUBJECTS = ("b|ö", "alice", *subjects_of_one_bucket(1))
OPERATIONS = st.sampled_from(["read", "keys_between", "write"])
FAULTS = st.sampled_from([Fault.UNAVAILABLE, Fault.CONFLICT, Fault.ANSWER_LOST])


@dataclass
class StillClock:
    """Shortly after the last event; its seconds pass between two batches."""

    seconds: float = 0.0

    def now(self) -> datetime:
        return MONTH_END + timedelta(hours=2)

    def monotonic(self) -> float:
        return self.seconds


def made_event(number: int) -> Countable:
    """The event of this number, the same on each call, spread over subjects, hours, months and kinds."""
    subject = SUBJECTS[number % 3]
    time = MONTH_END + timedelta(minutes=number % 4 * 17)
    if number >= 40:  # a late backlog, beyond what the sweep looks at unasked
        time -= timedelta(days=number - 36)
    if number % 8 == 7:
        usage = TokenUsage(prompt_tokens=-(2**31) - number, total_tokens=number)
        call = made_event(number - 3)
        return adjustment(
            number,
            subject=subject,
            time=time,
            usage=usage,
            refers_to=call.id,
            deployment=call.deployment,  # it counts where its call does
        )
    return usage_event(
        number,
        subject=subject,
        time=time,
        deployment=f"d{number % 2}",
        outcome=list(Outcome)[number % 4],
        usage_source=list(UsageSource)[number % 3],
        usage=TokenUsage(prompt_tokens=2**32 + number, total_tokens=2**33 + number),
    )


class ThrottledStore(MemoryRowStore):
    """A store of which some tables answer every write with 503."""

    def __init__(self) -> None:
        super().__init__()
        self.throttled: set[str] = set()

    async def write(self, table: str, partition: str, **rows: Any) -> Written | Conflict:
        if table in self.throttled:
            raise StorageUnavailable(f"{table}: ServerBusy 503")
        return await super().write(table, partition, **rows)


OPEN = set(OPEN_COLUMNS.values())
DAMAGES = st.sampled_from(
    [
        None,  # the row is gone
        {"Calls": 10**6, "Revision": 1},
        {"OpenDay": "damaged"},
        {"OpenHour": '{"window":"2026-11-30T23","revision":7,"calls":3}'},
        {"OpenHour": '{"window":"2026-11-01T00"}'},
    ]
)
NUMBERS = st.lists(st.integers(0, 60), min_size=1, max_size=8)


class Ledger(RuleBasedStateMachine):
    """Two aggregators on one store. A failed batch stays at the hub until it is handled.

    A batch can be finished before it is shown: the aggregator shows it later, or dies, and then the
    sweep does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = ThrottledStore()
        self.clock = StillClock()
        self.aggregators = [self.new_aggregator(), self.new_aggregator()]
        self.events: dict[UUID, Countable] = {}
        self.unfinished: list[list[Countable]] = []
        self.seen_writes = 0
        self.revisions: dict[tuple[str, str, str], int] = {}

    def new_aggregator(self) -> Aggregator:
        return Aggregator(
            store=self.store,
            clock=self.clock,
            retention=timedelta(days=100),
            writer=new_writer(),
        )

    @initialize(pauses=st.lists(st.integers(0, 3), max_size=30))
    def schedule(self, pauses: list[int]) -> None:
        self.store.pauses.extend(pauses)

    @rule(numbers=NUMBERS, who=st.integers(0, 1))
    def deliver(self, numbers: list[int], who: int) -> None:
        self.handle(self.batch(numbers), who)

    @rule(
        numbers=NUMBERS,
        who=st.integers(0, 1),
        operation=OPERATIONS,
        faults=st.lists(FAULTS | st.just(Fault.NOTHING), min_size=1, max_size=5),
        dies=st.booleans(),
    )
    def deliver_into_trouble(
        self, numbers: list[int], who: int, operation: str, faults: list[Fault], dies: bool
    ) -> None:
        self.store.plan(operation, *faults)
        self.handle(self.batch(numbers), who)
        self.store.forget_plans()
        if dies:
            self.aggregators[who] = self.new_aggregator()

    @rule(
        numbers=NUMBERS,
        who=st.integers(0, 1),
        tables=st.sets(st.sampled_from([*VIEWS, "Subjects", "DeadLetters"]), min_size=1),
        dies=st.booleans(),
    )
    def deliver_while_tables_are_throttled(
        self, numbers: list[int], who: int, tables: set[str], dies: bool
    ) -> None:
        """Their partitions answer 503, to the end of the batch or of the process."""
        self.store.throttled = tables
        self.handle(self.batch(numbers), who)
        self.store.throttled = set()
        if dies:
            self.aggregators[who] = self.new_aggregator()

    @rule(numbers=NUMBERS, who=st.integers(0, 1), data=st.data())
    def deliver_onto_a_damaged_sum(self, numbers: list[int], who: int, data: st.DataObject) -> None:
        """Its events are parked, and counted by a replay once it is repaired."""
        sums = [
            (name, *place)
            for name, rows in self.store.tables.items()
            for place in rows
            if place[1].startswith("s|")
        ]
        batch = self.batch(numbers)
        if sums:
            table, partition, key = data.draw(st.sampled_from(sorted(sums)))
            columns = self.store.tables[table][partition, key].columns
            column = data.draw(st.sampled_from(["TotalTokens", *sorted(OPEN & columns.keys())]))
            self.change(table, partition, key, **{column: "damaged"})
            self.handle(batch, who)
            self.change(table, partition, key, **{column: columns.get(column, 0)})
        self.handle(batch, who)

    @rule(data=st.data(), changes=DAMAGES)
    def repair_beside_running_aggregators(
        self, data: st.DataObject, changes: dict[str, object] | None
    ) -> None:
        """A row of sums is gone or wrong; the aggregators remember it as it was."""
        sums = [
            (name, *place)
            for name, rows in self.store.tables.items()
            for place in rows
            if place[1].startswith("s|")
        ]
        if not sums:
            return
        table, partition, key = data.draw(st.sampled_from(sorted(sums)))
        row = self.store.tables[table].pop((partition, key))
        if changes is not None:
            columns = {**row.columns, **changes}
            changed = {"insert": [Row(key=key, columns=columns)]}
            self.runner.run(self.store.write(table, partition, **changed))
        month = Window(f"{table[-6:-2]}-{table[-2:]}")
        rebuild = Rebuild(
            store=self.store,
            tables=self.store,
            clock=self.clock,
            month=month,
            repairs_ledger=True,
        )
        self.runner.run(rebuild.run(lambda _: None))

    @rule(
        ours=NUMBERS,
        theirs=NUMBERS,
        pauses=st.lists(st.integers(0, 4), max_size=30),
        share_memory=st.booleans(),
    )
    def race(
        self, ours: list[int], theirs: list[int], pauses: list[int], share_memory: bool
    ) -> None:
        """Deliver two hub partitions concurrently, to two processes or to one."""
        self.store.pauses.extend(pauses)
        batches = [self.batch(ours), self.batch(theirs)]
        first, second = self.aggregators
        racers = [first, first if share_memory else second]

        async def both() -> list[BaseException | None]:
            return await asyncio.gather(
                *(handled(one, batch) for one, batch in zip(racers, batches, strict=True))
            )

        failures = self.runner.run(both())
        self.unfinished += [b for b, failure in zip(batches, failures, strict=True) if failure]

    @rule(who=st.integers(0, 1))
    def redeliver(self, who: int) -> None:
        waiting, self.unfinished = self.unfinished, []
        for batch in waiting:
            self.handle(batch, who)

    @invariant()
    def sums_and_markers_agree(self) -> None:
        ledgers = [name for name in self.store.tables if name.startswith("Ledger")]
        markers = sum(
            key.startswith("c|") for name in ledgers for _, key in self.store.tables[name]
        )
        rows = [item for name in ledgers for item in sums_in_ledger(self.store, name).items()]
        for length in (7, 10, 13):
            of_length = (row for (_, key), row in rows if len(key.split("|")[1]) == length)
            sums = [read_sums(row.columns) for row in of_length]
            assert sum(each.calls + each.adjustments for each in sums) == markers

    @invariant()
    def views_never_go_back(self) -> None:
        for table, partition, row in self.store.history[self.seen_writes :]:
            if table in VIEWS:
                place = (table, partition, row.key)
                assert read_revision(row.columns) > self.revisions.get(place, 0)
                self.revisions[place] = read_revision(row.columns)
        self.seen_writes = len(self.store.history)

    def teardown(self) -> None:
        self.store.forget_plans()
        self.redeliver(0)
        for aggregator in self.aggregators:
            self.runner.run(aggregator.showing.settle())
        self.store.time += ABANDONED_AFTER + timedelta(seconds=1)
        self.runner.run(Sweep(store=self.store, tables=self.store, clock=self.clock).run())
        self.runner.close()

        assert self.unfinished == []
        assert marks(self.store) == []
        expected = expected_sums(filter(self.is_counted, self.events.values()))
        assert stored_sums(self.store, VIEWS) == expected
        assert stored_sums(self.store, ["Ledger202611", "Ledger202612"]) == expected

    def is_counted(self, event: Countable) -> bool:
        """All but adjustments that came before their call, which are dead letters then."""
        key = ledger_partition(event.subject), call_row_key(event.id, event.subject)
        ledgers = (rows for name, rows in self.store.tables.items() if name.startswith("Ledger"))
        if any(key in rows for rows in ledgers):
            return True
        assert isinstance(event, Adjustment)
        bodies = [row["Body"] for row in self.store.rows("DeadLetters").values()]
        assert any(str(event.id) in str(body) for body in bodies)
        return False

    def change(self, table: str, partition: str, key: str, **columns: object) -> None:
        """Write a cell by hand."""
        row = Row(key=key, columns=columns, etag=self.store.tables[table][partition, key].etag)
        self.runner.run(self.store.write(table, partition, update=[row]))

    def batch(self, numbers: Sequence[int]) -> list[Countable]:
        batch = [made_event(number) for number in numbers]
        self.events |= {event.id: event for event in batch}
        return batch

    def handle(self, batch: list[Countable], who: int) -> None:
        self.clock.seconds += 100.0
        if self.runner.run(handled(self.aggregators[who], batch)):
            self.unfinished.append(batch)


async def handled(aggregator: Aggregator, batch: list[Countable]) -> BaseException | None:
    """None, or the outage that failed the batch."""
    failure: BaseException | None = None
    try:
        await aggregator.handle([message(*batch)])
    except* StorageUnavailable as outages:
        failure = outages
    return failure


def expected_sums(events: Iterable[Countable]) -> dict[tuple[object, ...], Sums]:
    """The sums from folding all events of each subject."""
    by_subject: dict[str, list[Countable]] = {}
    for event in events:
        by_subject.setdefault(event.subject, []).append(event)
    return {
        (key.window.start, len(key.window.name), *key.dimensions): sums
        for subject, own in by_subject.items()
        for key, sums in fold(subject, own).items()
    }


def stored_sums(store: MemoryRowStore, tables: Sequence[str]) -> dict[tuple[object, ...], Sums]:
    """The stored sums of these tables."""
    found = {}
    for table in tables:
        is_view = table in VIEWS
        rows = store.tables.get(table, {}) if is_view else sums_in_ledger(store, table)
        for (partition, key), row in rows.items():
            name = view_window(partition) if is_view else key.split("|")[1]
            found[_names(row.columns, len(name))] = read_sums(row.columns)
    return found


def _names(columns: Mapping[str, object], length: int) -> tuple[object, ...]:
    return (columns["WindowStart"], length, *(columns[name] for name in DIMENSION_COLUMNS))


def marks(store: MemoryRowStore) -> list[str]:
    """The marks that are left in the ledgers."""
    ledgers = (rows for name, rows in store.tables.items() if name.startswith("Ledger"))
    return [key for rows in ledgers for _, key in rows if key.startswith(MARK_PREFIX)]


def sum_at(table: str, window: str, deployment: str) -> tuple[str, str, str]:
    """Where a sum of alice's calls is stored."""
    key = SumKey(Window(window), dimensions(deployment=deployment))
    return table, key.place.partition, key.row_key


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)


class Drawn:
    """Draws what a schedule that was found had drawn."""

    def __init__(self, *drawn: object) -> None:
        self.drawn = iter(drawn)

    def draw(self, _strategy: object) -> Any:
        return next(self.drawn)


def found_schedule() -> Ledger:
    ledger = Ledger()
    ledger.schedule(pauses=[])
    return ledger


def test_a_damaged_sum_that_only_a_repeat_needs_is_not_remembered() -> None:
    """Once it is repaired, its events are counted by the process that has seen the damage, too."""
    ledger = found_schedule()
    sums = [
        sum_at("Ledger202611", "2026-11", "d1"),
        sum_at("Ledger202612", "2026-12", "d0"),
    ]
    drawn = Drawn(sums[0], "OpenHour", sums[1], "OpenHour")
    ledger.deliver(numbers=[0, 1, 4, 28], who=0)
    ledger.deliver_onto_a_damaged_sum(data=drawn, numbers=[31], who=0)
    ledger.deliver_onto_a_damaged_sum(data=drawn, numbers=[7, 31], who=1)

    ledger.sums_and_markers_agree()
    ledger.teardown()


def test_a_sum_made_anew_is_shown_under_a_higher_revision() -> None:
    """It begins at 1, where its view may be with less in it."""
    ledger = found_schedule()
    drawn = Drawn(sum_at("Ledger202611", "2026-11", "d0"))
    ledger.deliver(numbers=[4], who=0)
    ledger.views_never_go_back()
    ledger.deliver_while_tables_are_throttled(
        dies=False, numbers=[8], tables={"UsageByHour"}, who=0
    )
    ledger.views_never_go_back()
    ledger.repair_beside_running_aggregators(changes=None, data=drawn)

    ledger.views_never_go_back()
    ledger.teardown()
