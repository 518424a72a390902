"""Dead letters: kept whole, once, with what is needed to find and repair them."""

import gzip
import random
from collections.abc import Mapping
from copy import replace

import pytest

from meter.errors import StorageUnavailable
from meter.ledger.deadletters import keep
from meter.ledger.decode import DeadLetter, Reason
from meter.ledger.keys import letter_digest
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import NOW, raw_message

TABLE = "DeadLetters"
PLACE = "0|00000000000000000007|000000"
KEY = f"{PLACE}|{letter_digest('ns/usage', b'{}')}"


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


def letter(body: bytes = b"{}", *, index: int = 0, detail: str = "why") -> DeadLetter:
    return DeadLetter(
        message=replace(raw_message(body, sequence_number=7), hub="ns/usage"),
        index=index,
        reason=Reason.INVALID_FIELD,
        detail=detail,
        body=body,
    )


def recovered(rows: Mapping[str, Mapping[str, object]]) -> bytes:
    """The body as an operator would get it back: from the letter's row and those that follow it."""
    columns = {name: value for row in rows.values() for name, value in row.items()}
    packed = [columns[f"BodyGzip{i}"] for i in range(100) if f"BodyGzip{i}" in columns]
    if not packed:
        return str(columns["Body"]).encode()
    assert all(isinstance(part, bytes) for part in packed)
    return gzip.decompress(b"".join(part for part in packed if isinstance(part, bytes)))


async def test_a_dead_letter_says_what_why_and_where_from(store: MemoryRowStore) -> None:
    """The published schema, in the partition of the day it was enqueued."""
    await keep(store, [letter(b'{"a":1}')])

    assert store.rows(TABLE, "2026-11-23") == {
        f"{PLACE}|{letter_digest('ns/usage', b'{"a":1}')}": {
            "Reason": "invalid-field",
            "Detail": "why",
            "Body": '{"a":1}',
            "Hub": "ns/usage",
            "HubPartition": "0",
            "SequenceNumber": 7,
            "EnqueuedAt": NOW,
        }
    }


async def test_a_redelivery_writes_no_second_row(store: MemoryRowStore) -> None:
    """Not even when it is delivered on another day."""
    await keep(store, [letter()])
    await keep(store, [letter()])

    assert len(store.tables[TABLE]) == 1


async def test_letters_of_one_message_have_rows_of_their_own(store: MemoryRowStore) -> None:
    """Their index in the message makes their keys different."""
    await keep(store, [letter(index=0), letter(index=1), letter(index=12)])

    assert [key.split("|")[2] for key in store.rows(TABLE)] == ["000000", "000001", "000012"]


async def test_letters_of_two_hub_partitions_have_rows_of_their_own(store: MemoryRowStore) -> None:
    """A sequence number orders one hub partition only."""
    there = replace(letter(), message=replace(letter().message, hub_partition="1/a"))
    await keep(store, [letter(), there])

    assert list(store.rows(TABLE)) == [KEY, f"1=2Fa{KEY[1:]}"]


async def test_letters_at_one_place_of_two_hubs_are_two(store: MemoryRowStore) -> None:
    """A hub made anew, or a second one, counts its messages from 0 again on the same day."""
    here = letter()
    there = replace(here, message=replace(here.message, hub="ns/other"))
    await keep(store, [here])
    await keep(store, [there])

    assert [row["Hub"] for row in store.rows(TABLE).values()] == ["ns/usage", "ns/other"]


async def test_letters_at_one_place_with_two_bodies_are_two(store: MemoryRowStore) -> None:
    """A hub made anew under its old name: nothing but the body tells them apart."""
    await keep(store, [letter(b"[]")])
    await keep(store, [letter(b"{}")])

    assert [row["Body"] for row in store.rows(TABLE).values()] == ["[]", "{}"]


async def test_a_hundred_letters_are_one_transaction(store: MemoryRowStore) -> None:
    """One request per letter kept a batch from its end for hours."""
    await keep(store, [letter(b"%d" % n, index=n) for n in range(250)])

    assert [t.rows for t in store.transactions] == [100, 100, 50]
    assert store.calls["write"] == 3


async def test_a_transaction_of_long_letters_stays_below_the_limit(store: MemoryRowStore) -> None:
    """The service takes 4 MiB: five letters of 30,000 characters, each of them escaped, fit."""
    await keep(store, [letter("ö".encode() * 29_000 + b"%d" % n) for n in range(40)])

    assert max(t.rows for t in store.transactions) == 17
    assert sum(t.rows for t in store.transactions) == 40


async def test_what_a_redelivery_adds_is_stored(store: MemoryRowStore) -> None:
    """Rows that are there make the transaction fail; the others are written by the next one."""
    letters = [letter(b"%d" % n, index=n) for n in range(5)]
    await keep(store, letters[1:3])
    await keep(store, letters)

    assert len(store.tables[TABLE]) == 5


async def test_a_conflict_that_proves_no_row_is_not_taken_for_one(store: MemoryRowStore) -> None:
    """Whatever made the write fail, the letter is there in the end or the batch fails."""
    store.plan("write", *[Fault.CONFLICT] * 2)
    await keep(store, [letter()])
    assert len(store.tables[TABLE]) == 1

    store.plan("write", *[Fault.CONFLICT] * 9)
    with pytest.raises(StorageUnavailable, match="5 conflicts in a row"):
        await keep(store, [letter(b"other")])


async def test_a_redelivery_that_is_known_as_one_costs_one_request(store: MemoryRowStore) -> None:
    """Storage is asked first what is there."""
    letters = [letter(b"%d" % n, index=n) for n in range(100)]
    await keep(store, letters)
    store.calls.clear()
    await keep(store, letters, may_be_stored=True)

    assert dict(store.calls) == {"keys_between": 1}


async def test_a_letter_without_its_time_is_kept_apart(store: MemoryRowStore) -> None:
    """Not every host hands on when a message was enqueued; a redelivery must find the row."""
    undated = replace(letter(), message=replace(letter().message, enqueued_at=None))
    await keep(store, [undated])

    (row,) = store.rows(TABLE, "undated").values()
    assert "EnqueuedAt" not in row


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\x01\x7f",
        "a\x85 b\uffff".encode(),
        b"\xff\xfe\x00",
        "zoë 😀".encode(),
        b"x" * 30_000,
        b"x" * 30_001,
        "😀".encode() * 15_000,
        "😀".encode() * 15_001,
        b"\xff" * 500_000,
        b"x" * 1_048_576,
        random.Random(1).randbytes(900_000),
        random.Random(1).randbytes(1_048_576),
    ],
    ids=lambda body: f"{body[:4]!r} x {len(body)}",
)
async def test_any_body_is_kept_whole(store: MemoryRowStore, body: bytes) -> None:
    """Text as text where a column holds it, else compressed; nothing is cut or replaced."""
    await keep(store, [letter(body)])

    assert recovered(store.rows(TABLE)) == body


async def test_a_packed_body_shows_its_readable_beginning(store: MemoryRowStore) -> None:
    """The beginning shows an operator what it is about."""
    await keep(store, [letter(b"{" + b"a" * 70_000)])

    (row,) = store.rows(TABLE).values()
    assert row["Body"] == "{" + "a" * 999


@pytest.mark.parametrize("character", ["\x00", "\x1f", "\x7f", "\x85", "\ufdd0", "\uffff"])
async def test_characters_that_a_text_column_may_not_hold_are_packed(
    store: MemoryRowStore, character: str
) -> None:
    """A letter that storage refuses would hold up its hub partition for ever."""
    await keep(store, [letter(f"a{character}b".encode(), detail=f"got {character}")])

    (row,) = store.rows(TABLE).values()
    assert (row["Body"], row["Detail"]) == ("a\ufffdb", "got \ufffd")
    assert recovered(store.rows(TABLE)) == f"a{character}b".encode()


async def test_a_long_detail_is_cut(store: MemoryRowStore) -> None:
    """A reason is read by people."""
    await keep(store, [letter(detail="x" * 40_000)])

    assert store.rows(TABLE)[KEY]["Detail"] == "x" * 1000


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.ANSWER_LOST])
async def test_a_body_of_several_rows_is_whole_after_a_redelivery(
    store: MemoryRowStore, fault: Fault
) -> None:
    """A writer that dies between its rows leaves a letter that the next one completes."""
    body = random.Random(1).randbytes(1_048_576)
    store.plan("write", fault)
    with pytest.raises(StorageUnavailable):
        await keep(store, [letter(body)])
    await keep(store, [letter(body)])

    assert recovered(store.rows(TABLE)) == body


async def test_an_outage_fails_the_batch(store: MemoryRowStore) -> None:
    """A dead letter that is not stored must be delivered again."""
    store.plan("write", Fault.NOTHING, Fault.UNAVAILABLE)

    with pytest.raises(StorageUnavailable):
        await keep(store, [letter(b"%d" % n, index=n) for n in range(101)])
    assert len(store.tables[TABLE]) == 100
