"""Proofs: one holds without any access, and no changed one does."""

import asyncio
import json
from collections.abc import Iterator
from copy import deepcopy, replace
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.upkeep.closing.canonical import canonical
from meter.upkeep.closing.header import read_header
from meter.upkeep.closing.proof import Proof, ProofInvalid, check_proof
from meter.upkeep.closing.prove import NotProvable
from meter.upkeep.closing.tree import Step
from meter.usage import Outcome, TokenUsage, ToolUsage, UsageSource
from tests.support.closing import (
    IN_OCTOBER,
    LATER_IN_NOVEMBER,
    NOVEMBER,
    closed_header,
    count,
    marker_place,
    october,
    october_call,
    prove,
)
from tests.support.events import adjustment
from tests.support.rebuilding import Store


async def closed_store() -> Store:
    """October with some of everything, closed."""
    store = await october(12)
    await count(
        store,
        october_call(
            20,
            outcome=Outcome.FAILED,
            usage_source=UsageSource.MISSING,
            usage=TokenUsage(),
            tool_usage=(ToolUsage(deployment="img", model=None, usage=TokenUsage(image_tokens=7)),),
        ),
        adjustment(1, time=IN_OCTOBER),
    )
    await closed_header(store, prices=({"file": "book.csv", "sha256": "00" * 32},))
    return store


@cache
def valid() -> bytes:
    """The proof of call 20."""

    async def make() -> bytes:
        return (await prove(await closed_store(), 20)).encode()

    with asyncio.Runner() as runner:
        return runner.run(make())


@pytest.mark.parametrize("number", [1, 3, 20, 1_000_001])
async def test_a_call_of_a_closed_month_can_be_proven(number: int) -> None:
    """Adjustments as well; the proof is checked from its bytes alone."""
    store = await closed_store()
    proof = await prove(store, number, "bob" if number == 3 else "alice")
    checked = check_proof(proof.encode(), root=proof.header.root.upper())

    assert checked == proof
    assert checked.header.totals["calls"] == 13
    assert checked.header.document["leaves"] == 14


async def test_the_only_call_of_a_month_can_be_proven() -> None:
    """Its leaf is the tree."""
    store = await october(1)
    await closed_header(store)
    proof = await prove(store)

    assert proof.path == ()
    assert check_proof(proof.encode()) == proof


def test_a_proof_can_be_checked_with_a_few_lines_of_ones_own() -> None:
    """What docs/closing.md says is enough."""
    proof = json.loads(valid())

    def to_json(value: object) -> bytes:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    leaf = proof["leaf"]
    subject = sha256(leaf["subject"].encode()).digest()
    key = f"{int.from_bytes(subject):0256b}"[:6] + f"{int(leaf['id'].replace('-', ''), 16):0128b}"
    key += f"{int.from_bytes(subject):0256b}"
    node, counts = sha256(b"\0" + to_json(leaf)).digest(), {"calls": 1, "failed_calls": 1}
    counts |= {"missing_calls": 1, "image_tokens": 7}
    for step in proof["path"]:
        pair = [(node, counts), (bytes.fromhex(step["hash"]), step["counts"])]
        pair.sort(key=lambda each: (each[0] == node) == (key[step["depth"]] == "1"))
        parts = [part for hashed, count in pair for part in (hashed, to_json(count))]
        node = sha256(b"\1" + step["depth"].to_bytes(2) + b"".join(parts)).digest()
        names = counts.keys() | step["counts"].keys()
        counts = {name: counts.get(name, 0) + step["counts"].get(name, 0) for name in names}

    assert node.hex() == proof["closed"]["tree"]
    assert {name: n for name, n in counts.items() if n} == proof["closed"]["totals"]
    assert sha256(b"\2" + to_json(proof["closed"])).hexdigest() == proof["root"]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values of a document."""
    yield path
    if isinstance(value, dict | list):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*path, name))


OTHER_VALUES: tuple[Any, ...] = (None, True, 0, 1, -1, 1.0, 10**30, "", "0", "x", [], {}, [1])


def variants(value: Any) -> Iterator[Any]:
    """Values that are not this one."""
    match value:
        case str():
            yield from (value + "0", value[:-1], value.upper(), f"1{value[1:]}", f"f{value[1:]}")
        case bool() | None:
            pass
        case int():
            yield from (value + 1, value - 1, -value, float(value), str(value), value * 2)
        case list():
            yield from (value[1:], value[::-1], [*value, *value[:1]], value[:-1])
        case dict():
            yield {**value, "more": 1}
            for name in value:
                yield {key: part for key, part in value.items() if key != name}
    yield from OTHER_VALUES


def test_no_changed_value_is_accepted() -> None:
    """Each field of the call, the path, the totals and the rest, changed in many ways."""
    original = json.loads(valid())
    tried = 0
    for path in places(original):
        if not path:
            continue
        before: Any = original
        for name in path:
            before = before[name]
        for value in variants(before):
            if value == before and type(value) is type(before):
                continue
            changed = deepcopy(original)
            part = changed
            for name in path[:-1]:
                part = part[name]
            part[path[-1]] = value
            text = json.dumps(changed, ensure_ascii=False, sort_keys=True, indent=2) + "\n"
            with pytest.raises(ProofInvalid):
                check_proof(text.encode())
            tried += 1

    assert tried > 1_000


def test_no_changed_byte_is_accepted() -> None:
    """White space, escapes and the last line feed included."""
    original = valid()
    for place in range(len(original)):
        for byte in {original[place] ^ 1, original[place] ^ 32, 32} - {original[place]}:
            with pytest.raises(ProofInvalid):
                check_proof(original[:place] + bytes([byte]) + original[place + 1 :])


@given(st.data())
def test_no_changed_file_is_accepted(data: st.DataObject) -> None:
    """Bytes removed, added or doubled, anywhere."""
    original = valid()
    start = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(start, min(len(original), start + 40)))
    changed = original[:start] + data.draw(st.binary(max_size=20)) + original[end:]
    if changed != original:
        with pytest.raises(ProofInvalid):
            check_proof(changed)


@pytest.mark.parametrize(
    "file",
    [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000, b"9" * 10_000, b" " * 3_000_000],
    ids=["empty", "list", "object", "null", "no-utf8", "deep", "number", "long"],
)
def test_what_is_no_proof_is_refused(file: bytes) -> None:
    """Without a traceback, whatever it is."""
    with pytest.raises(ProofInvalid):
        check_proof(file)


def test_a_proof_of_another_root_is_refused() -> None:
    """A proof that somebody made up is of a root that was never published."""
    with pytest.raises(ProofInvalid, match="it is of another root"):
        check_proof(valid(), root="00" * 32)


def remade(proof: Proof, **totals: int) -> Proof:
    """The proof with a header that says other totals, and so has another root."""
    document = {**proof.header.document, "totals": {**proof.header.totals, **totals}}
    document["leaves"] = document["totals"]["calls"] + document["totals"].get("adjustments", 0)
    return replace(proof, header=read_header(document))


def test_totals_that_the_calls_do_not_add_up_to_are_refused() -> None:
    """Also under a header that was made for them: the tree adds up its calls."""
    proof = check_proof(valid())
    for totals in ({"calls": 14}, {"prompt_tokens": 1}, {"images": 1}):
        with pytest.raises(ProofInvalid, match="do not add up to the month's totals"):
            check_proof(remade(proof, **totals).encode())


def test_no_other_side_can_take_a_call_away() -> None:
    """Counts below 0 would hide it in the total; only adjustments may be so."""
    proof = check_proof(valid())
    step = proof.path[-1]
    hiding = replace(
        proof, path=(*proof.path[:-1], step._replace(counts={**step.counts, "calls": -1}))
    )

    with pytest.raises(ProofInvalid, match="calls is -1"):
        check_proof(hiding.encode())


def test_a_call_has_one_place_only() -> None:
    """A path in another order, or with a level twice, is none: the key decides each side."""
    proof = check_proof(valid())
    for path in (proof.path[::-1], (*proof.path, proof.path[-1])):
        with pytest.raises(ProofInvalid, match=r"depth \d+ is not above \d+"):
            check_proof(replace(proof, path=path).encode())


async def test_the_same_id_of_two_subjects_is_two_calls() -> None:
    """Each has a place of its own: an id is its subject's alone."""
    store = await october(2)
    await count(store, october_call(1, subject="bob"))
    header = await closed_header(store)
    alices, bobs = await prove(store, 1), await prove(store, 1, "bob")

    assert header.totals["calls"] == 3
    assert alices.leaf["id"] == bobs.leaf["id"]
    assert canonical(alices.leaf) != canonical(bobs.leaf)
    assert check_proof(alices.encode()).header == check_proof(bobs.encode()).header


async def test_a_call_that_arrives_later_is_not_in_the_closed_total() -> None:
    """It cannot be proven, and takes no proof from the others of its bucket."""
    store = await october(4)
    await closed_header(store)
    await count(store, october_call(9), at=LATER_IN_NOVEMBER)

    with pytest.raises(NotProvable, match="arrived after 2026-10 was closed: it is a correction"):
        await prove(store, 9)
    assert check_proof((await prove(store, 1)).encode()).header.totals["calls"] == 4


async def test_a_call_that_is_not_counted_cannot_be_proven() -> None:
    """Nor one of another subject, nor one of a month that is open."""
    store = await october()
    with pytest.raises(NotProvable, match="is counted in 2026-10, which is not closed"):
        await prove(store)
    await closed_header(store)

    for number, subject in ((77, "alice"), (1, "bob")):
        with pytest.raises(NotProvable, match="no such call of this subject is counted in 2026-10"):
            await prove(store, number, subject)
    with pytest.raises(NotProvable, match="in 2026-11"):
        await prove(store, month=NOVEMBER)


async def test_no_call_can_be_proven_without_its_ledger() -> None:
    """Markers go with the ledger; proofs that were made before stay valid."""
    store = await october()
    await closed_header(store)
    before = (await prove(store)).encode()
    await store.drop("Ledger202610")

    with pytest.raises(NotProvable, match=r"Ledger202610 was dropped .* proofs made before stay"):
        await prove(store)
    assert check_proof(before)


@pytest.mark.parametrize("columns", [{"At": IN_OCTOBER.replace(day=21)}, {"Call": "{}"}, None])
async def test_a_marker_that_was_changed_cannot_be_proven(columns: dict[str, Any] | None) -> None:
    """Nor can any other of its bucket: the tree is not the one that was closed."""
    store = await october()
    await closed_header(store)
    if columns is None:
        store.remove(*marker_place(2))
    else:
        store.tamper(*marker_place(2), **columns)

    with pytest.raises(NotProvable, match="does not have the markers that it had when 2026-10"):
        await prove(store, 1)


def test_the_month_of_the_call_is_the_closed_one() -> None:
    """A marker counts in the month in which its call ended."""
    proof = check_proof(valid())
    document = {**proof.header.document, "month": "2026-09"}

    with pytest.raises(ProofInvalid, match="not in 2026-09"):
        check_proof(replace(proof, header=read_header(document)).encode())


def test_a_step_can_be_of_counts_alone() -> None:
    """Counts of other calls are shown added up, their subjects and ids never."""
    text = valid().decode()

    assert "bob" not in text
    assert all(isinstance(step, Step) for step in check_proof(valid()).path)
