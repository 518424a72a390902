"""The Subjects table: what the app writes, and operators' columns, which it never changes."""

from copy import replace
from datetime import timedelta

import pytest

from meter.errors import StorageUnavailable
from meter.ledger.views.subjects import Seen, SubjectWriter, seen_in
from meter.ports import Row
from meter.usage import UsageEvent
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import NOW, PRINCIPAL, usage_event

EARLIER, LATER = NOW - timedelta(hours=1), NOW + timedelta(minutes=1)


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


@pytest.fixture
def subjects(store: MemoryRowStore) -> SubjectWriter:
    return SubjectWriter(store)


def seen(*events: UsageEvent) -> list[Seen]:
    return [seen_in(event) for event in events]


async def operator_writes(store: MemoryRowStore, key: str, **columns: object) -> None:
    found = await store.read("Subjects", "subject", [key])
    row = Row(key=key, columns=columns, etag=found[key].etag if key in found else None)
    places: dict[str, list[Row]] = {"insert": [], "update": []}
    places["update" if row.etag else "insert"].append(row)
    await store.write("Subjects", "subject", insert=places["insert"], update=places["update"])


async def test_a_subject_has_one_row_with_what_its_token_said(
    store: MemoryRowStore, subjects: SubjectWriter
) -> None:
    """The published schema; the key is escaped and the subject whole."""
    await subjects.record(
        seen(usage_event(1, subject="a|b"), usage_event(2, subject="a|b", time=LATER))
    )

    assert store.rows("Subjects", "subject") == {
        "a=7Cb": {
            "Subject": "a|b",
            "Name": "",
            "Tenant": "tenant",
            "ObjectId": "object",
            "ClientApp": "app",
            "FirstSeen": NOW,
            "LastSeen": LATER,
        }
    }


@pytest.mark.parametrize("remembers", [True, False])
async def test_seeing_the_same_calls_again_writes_nothing(
    store: MemoryRowStore, subjects: SubjectWriter, remembers: bool
) -> None:
    """A redelivery leaves no trace."""
    await subjects.record(seen(usage_event(1), usage_event(2, time=LATER)))
    writer = subjects if remembers else SubjectWriter(store)
    await writer.record(seen(usage_event(2, time=LATER)))
    await writer.record(seen(usage_event(1)))

    assert len(store.transactions) == 1


async def test_first_seen_only_goes_back_and_last_seen_only_forward(
    store: MemoryRowStore, subjects: SubjectWriter
) -> None:
    """Events come in any order."""
    for time in (NOW, EARLIER, LATER, NOW):
        await subjects.record(seen(usage_event(1, time=time)))

    row = store.rows("Subjects")["alice"]
    assert (row["FirstSeen"], row["LastSeen"]) == (EARLIER, LATER)


async def test_what_operators_fill_in_is_kept(
    store: MemoryRowStore, subjects: SubjectWriter
) -> None:
    """Their columns are merged with ours, also when they write while we do."""
    await subjects.record(seen(usage_event(1)))
    await operator_writes(store, "alice", DisplayName="Alice", Team="search", CostCentre="42")
    store.intrude(lambda: operator_writes(store, "alice", Team="find", Note="own column"))
    await subjects.record(seen(usage_event(2, time=LATER)))

    row = store.rows("Subjects")["alice"]
    assert {name: row[name] for name in ("DisplayName", "Team", "CostCentre", "Note")} == {
        "DisplayName": "Alice",
        "Team": "find",
        "CostCentre": "42",
        "Note": "own column",
    }
    assert row["LastSeen"] == LATER


async def test_a_row_that_an_operator_made_in_advance_is_filled_in(
    store: MemoryRowStore, subjects: SubjectWriter
) -> None:
    """Cost centres may be known before the first call."""
    await operator_writes(store, "alice", CostCentre="42")
    await subjects.record(seen(usage_event(1)))

    row = store.rows("Subjects")["alice"]
    assert (row["CostCentre"], row["FirstSeen"], row["LastSeen"]) == ("42", NOW, NOW)


async def test_more_than_100_subjects_need_several_transactions(
    store: MemoryRowStore, subjects: SubjectWriter
) -> None:
    """The service takes 100 rows at once."""
    await subjects.record(seen(*(usage_event(n, subject=f"s{n}") for n in range(201))))

    assert [transaction.rows for transaction in store.transactions] == [100, 100, 1]


async def test_a_claim_that_the_token_lacks_is_an_empty_text(
    store: MemoryRowStore, subjects: SubjectWriter
) -> None:
    """Analysts need not handle a missing column beside an empty one."""
    principal = replace(PRINCIPAL, tenant=None, object_id=None, client_app=None, name=None)
    await subjects.record(seen(replace(usage_event(1), principal=principal)))

    row = store.rows("Subjects")["alice"]
    assert {row[name] for name in ("Tenant", "ObjectId", "ClientApp", "Name")} == {""}


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.ANSWER_LOST])
async def test_an_outage_is_repaired_by_recording_the_calls_again(
    store: MemoryRowStore, subjects: SubjectWriter, fault: Fault
) -> None:
    """Whether or not the write was applied."""
    store.plan("write", fault)
    with pytest.raises(StorageUnavailable):
        await subjects.record(seen(usage_event(1)))
    await subjects.record(seen(usage_event(1)))

    assert store.rows("Subjects")["alice"]["LastSeen"] == NOW


async def test_contention_without_end_is_an_outage(
    store: MemoryRowStore, subjects: SubjectWriter
) -> None:
    """What waits is tried again later."""
    store.plan("write", *[Fault.CONFLICT] * 10)

    with pytest.raises(StorageUnavailable, match="10 conflicts in a row"):
        await subjects.record(seen(usage_event(1)))


async def test_an_older_call_does_not_bring_an_older_client_app_back() -> None:
    """Claims are those of the newest call, in whatever order they come."""
    store = MemoryRowStore()
    subjects = SubjectWriter(store)
    new = replace(usage_event(1), principal=replace(PRINCIPAL, client_app="new"))
    old = replace(
        usage_event(2),
        time=NOW - timedelta(hours=1),
        principal=replace(PRINCIPAL, client_app="old"),
    )
    await subjects.record(seen(new))
    await subjects.record(seen(old))

    assert store.rows("Subjects")["alice"]["ClientApp"] == "new"


async def test_a_damaged_last_seen_does_not_move_the_first(store: MemoryRowStore) -> None:
    """Each of the two moments is kept for itself."""
    await SubjectWriter(store).record(seen(usage_event(1, time=EARLIER)))
    await operator_writes(store, "alice", LastSeen="yesterday")
    await SubjectWriter(store).record(seen(usage_event(2)))
    row = store.rows("Subjects")["alice"]
    assert (row["FirstSeen"], row["LastSeen"]) == (EARLIER, NOW)


async def test_a_subject_of_which_only_sums_are_known_keeps_its_claims(
    store: MemoryRowStore, subjects: SubjectWriter
) -> None:
    """The sweep knows when it called, and not with which token."""
    named = replace(usage_event(1), principal=replace(PRINCIPAL, name="Ada"))
    sums_only = Seen(subject="alice", first=EARLIER, last=LATER)
    await subjects.record([*seen(named), sums_only])
    await SubjectWriter(store).record([Seen(subject="bob", first=NOW, last=NOW)])

    rows = store.rows("Subjects")
    assert {name: rows["alice"][name] for name in ("FirstSeen", "LastSeen")} == {
        "FirstSeen": EARLIER,
        "LastSeen": LATER,
    }
    assert rows["bob"] == {"Subject": "bob", "FirstSeen": NOW, "LastSeen": NOW}


async def test_first_calls_of_new_subjects_cost_no_read(
    store: MemoryRowStore, subjects: SubjectWriter
) -> None:
    """A row that is not known is taken for new; the insert proves it."""
    await subjects.record(seen(*(usage_event(n, subject=f"s{n}") for n in range(50))))

    assert dict(store.calls) == {"write": 1}
