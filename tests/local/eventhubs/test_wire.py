"""The wire below the SDK: credit, drain, windows, idle peers and invalid input."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from local.eventhubs import Endpoint
from local.eventhubs.codec import Described, UInt, ULong, Value, decode, encode
from local.eventhubs.frames import AMQP_HEADER, EMPTY_FRAME, FRAME_HEADER, frame, transfer_body
from local.eventhubs.message import BATCH_FORMAT, DATA, section
from tests.local.eventhubs.peer import (
    ATTACH,
    CLOSE,
    DETACH,
    DISPOSITION,
    FLOW,
    TRANSFER,
    Peer,
    connect,
)
from tests.local.eventhubs.test_harness import CONFIG, HUB, KEY, KEY_NAME

_FEED = f"{HUB}/ConsumerGroups/$Default/Partitions/0"


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    endpoint = Endpoint(CONFIG, tmp_path, KEY_NAME, KEY)
    yield await endpoint.start()
    await endpoint.stop()


async def _send_numbers(peer: Peer, count: int) -> None:
    peer.attach(0, f"{HUB}/Partitions/0", receives=False)
    for number in range(count):
        peer.transfer(section(DATA, str(number).encode()), number=number)
    for _ in range(count):
        fields, _ = await peer.next(DISPOSITION)
        assert fields[4] == Described(ULong(0x24), [])


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        AMQP_HEADER + b"\xff" * 64,
        AMQP_HEADER + b"\x00\x00\x00\x01\x02\x00\x00\x00",
        AMQP_HEADER + b"\x7f\xff\xff\xff\x02\x00\x00\x00",
        AMQP_HEADER + frame(0, b"\x00\x53\x10\xd0\xff\xff\xff\xff\xff\xff\xff\xff"),
        AMQP_HEADER + frame(0, b"\x00" * 200),
        AMQP_HEADER + frame(9, encode(Described(ULong(TRANSFER), [UInt(0)]))),
    ],
)
async def test_garbage_ends_its_own_connection_and_no_other(port: int, garbage: bytes) -> None:
    """Invalid input closes only its own connection."""
    async with connect(port) as good, connect(port) as bad:
        await good.open()
        bad.write(garbage)

        assert await bad.is_closed()
        await _send_numbers(good, 1)


async def test_a_client_that_is_silent_is_sent_away(tmp_path: Path) -> None:
    """As announced in the open; an empty frame is enough to stay."""
    endpoint = Endpoint(CONFIG, tmp_path, KEY_NAME, KEY, idle_seconds=0.5)
    async with connect(await endpoint.start()) as peer:
        await peer.open()
        fields, _ = await peer.next(CLOSE)

        assert fields[0].value[0] == "amqp:connection:forced"
        assert await peer.is_closed()
    await endpoint.stop()


async def test_a_client_that_dies_in_the_middle_of_a_frame_leaves_nothing(port: int) -> None:
    """Half a delivery is dropped with its connection, and is never stored."""
    async with connect(port) as dying:
        await dying.open()
        dying.attach(0, f"{HUB}/Partitions/0", receives=False)
        await dying.next(FLOW)
        dying.transfer(section(DATA, b"first half"), more=True)
        dying.write(b"\x00\x00\x01\x00\x02\x00")
    async with connect(port) as peer:
        await peer.open()
        await _send_numbers(peer, 1)
        peer.attach(1, _FEED, receives=True)
        peer.credit(1, 5)

        _, payload = await peer.next(TRANSFER)

    assert payload.endswith(section(DATA, b"0"))


async def test_a_frame_over_the_limit_is_a_framing_error(port: int) -> None:
    """The connection is closed with a reason before the frame's bytes are kept."""
    async with connect(port) as peer:
        await peer.open()
        peer.write(FRAME_HEADER.pack(65537, 2, 0, 0))

        [error], _ = await peer.next(CLOSE)

    assert error.value[0] == "amqp:connection:framing-error"


async def test_no_more_is_sent_than_credit_allows_and_drain_uses_it_up(port: int) -> None:
    """Credit is exact; a drained link reports its credit spent once nothing is left to send."""
    async with connect(port) as peer:
        await peer.open()
        await _send_numbers(peer, 5)
        peer.attach(1, _FEED, receives=True)
        peer.credit(1, 3)
        first = [(await peer.next(TRANSFER))[1][-1:] for _ in range(3)]
        peer.credit(1, 10, count=3, drain=True)
        rest = [(await peer.next(TRANSFER))[1][-1:] for _ in range(2)]
        flow, _ = await peer.next(FLOW)

    assert (first, rest) == ([b"0", b"1", b"2"], [b"3", b"4"])
    assert (flow[4], flow[5], flow[6], flow[8]) == (1, 13, 0, True)


async def test_a_message_is_cut_to_the_peers_frame_size(port: int) -> None:
    """A peer with small frames gets several transfers of one delivery, `more` on all but one."""
    async with connect(port) as peer:
        await peer.open(max_frame_bytes=512)
        peer.attach(0, f"{HUB}/Partitions/0", receives=False)
        peer.transfer(section(DATA, b"x" * 2000))
        await peer.next(DISPOSITION)
        peer.attach(1, _FEED, receives=True)
        peer.credit(1, 1)
        frames = [await peer.next(TRANSFER) for _ in range(5)]

    assert [fields[5] for fields, _ in frames] == [True, True, True, True, False]
    assert all(len(payload) <= 512 for _, payload in frames)
    assert b"".join(payload for _, payload in frames).endswith(b"x" * 2000)


async def test_two_readers_of_one_session_share_its_window(port: int) -> None:
    """A flow for one link opens the session's window, and the other link continues as well."""
    async with connect(port) as peer:
        await peer.open()
        await _send_numbers(peer, 1)
        peer.attach(1, _FEED, receives=True)
        peer.attach(2, _FEED, receives=True)
        closed: list[Value] = [UInt(0), UInt(0), UInt(0), UInt(0)]
        for handle in (1, 2):
            peer.send(FLOW, [*closed, UInt(handle), UInt(0), UInt(1)])
        peer.send(FLOW, [UInt(0), UInt(10), UInt(0), UInt(0), UInt(1), UInt(0), UInt(1)])
        handles = [(await peer.next(TRANSFER))[0][0] for _ in range(2)]

    assert sorted(handles) == [1, 2]


async def test_a_delivery_in_several_frames_is_one_event(port: int) -> None:
    """Frames are joined, and answered once."""
    whole = section(DATA, b"a" * 300)
    async with connect(port) as peer:
        await peer.open()
        peer.attach(0, f"{HUB}/Partitions/0", receives=False)
        peer.transfer(whole[:100], more=True)
        peer.transfer(whole[100:])
        fields, _ = await peer.next(DISPOSITION)
        peer.attach(1, _FEED, receives=True)
        peer.credit(1, 2)
        _, payload = await peer.next(TRANSFER)

    assert fields[4] == Described(ULong(0x24), [])
    assert payload.endswith(whole)


async def test_a_settled_delivery_is_stored_without_an_answer(port: int) -> None:
    """A settled delivery gets no answer; the next unsettled one is answered with its own number."""
    async with connect(port) as peer:
        await peer.open()
        peer.attach(0, f"{HUB}/Partitions/0", receives=False)
        peer.transfer(section(DATA, b"settled"), settled=True)
        peer.transfer(section(DATA, b"asked"), number=1)
        fields, _ = await peer.next(DISPOSITION)
        peer.attach(1, _FEED, receives=True)
        peer.credit(1, 2)
        payloads = [(await peer.next(TRANSFER))[1] for _ in range(2)]

    assert fields[1] == 1
    assert payloads[0].endswith(b"settled")
    assert payloads[1].endswith(b"asked")


async def test_a_delivery_that_is_no_message_is_rejected_and_the_link_lives(port: int) -> None:
    """A sender's mistake is answered on its delivery, with the condition of the codec."""
    async with connect(port) as peer:
        await peer.open()
        peer.attach(0, f"{HUB}/Partitions/0", receives=False)
        peer.transfer(b"no message")
        fields, _ = await peer.next(DISPOSITION)
        peer.transfer(section(DATA, b"fine"), number=1)
        accepted, _ = await peer.next(DISPOSITION)

    assert fields[4].descriptor == 0x25
    assert fields[4].value[0].value[0] == "amqp:decode-error"
    assert accepted[4].descriptor == 0x24


@pytest.mark.parametrize(
    ("address", "receives"),
    [
        ("no-such-hub", False),
        ("amqps://[no-host/hub", False),
        (f"{HUB}/ConsumerGroups/nobody/Partitions/0", True),
        (f"amqps://localhost:5671/{HUB}/ConsumerGroups/nobody/Partitions/0", True),
    ],
)
async def test_an_address_that_names_nothing_is_not_found(
    port: int, address: str, receives: bool
) -> None:
    """The answer names no node on this side, then the link is ended with the reason."""
    detached = await _refused(port, address, receives=receives)

    assert detached[2].value[0] == "amqp:not-found"
    assert re.match(r"The messaging entity .* could not be found", detached[2].value[1])


@pytest.mark.parametrize(
    ("address", "receives"),
    [
        (f"{HUB}/Partitions/99", False),
        (f"amqps://localhost:5671/{HUB}/ConsumerGroups/$Default/Partitions/99", True),
    ],
)
async def test_a_partition_that_the_hub_lacks_is_out_of_range(
    port: int, address: str, receives: bool
) -> None:
    """As in Azure, it is an argument that no retry makes valid; the text says which are."""
    detached = await _refused(port, address, receives=receives)

    assert detached[2].value[0] == "com.microsoft:argument-out-of-range"
    assert detached[2].value[1].endswith("the hub has 0 to 3.")


async def _refused(port: int, address: str, *, receives: bool) -> list[Any]:
    """Attach, check the answer, and return the fields of the detach that follows."""
    async with connect(port) as peer:
        await peer.open()
        peer.attach(3, address, receives=receives)
        attached, _ = await peer.next(ATTACH)
        code, detached, _ = await peer.receive()
    own, theirs = (5, 6) if receives else (6, 5)
    assert len(attached) == 14
    assert (attached[own], code) == (None, DETACH)
    assert attached[theirs] is not None
    return detached


async def test_without_a_token_no_hub_is_reached(port: int) -> None:
    """Only `$cbs` is open to a connection that has not authenticated."""
    async with connect(port) as peer:
        await peer.open_unauthenticated()
        peer.attach(0, HUB, receives=False)
        detached, _ = await peer.next(DETACH)

    assert detached[2].value[0] == "amqp:unauthorized-access"


async def test_an_idle_peer_gets_empty_frames_within_its_timeout(port: int) -> None:
    """Within each idle timeout of the peer at least an empty frame is sent."""
    async with connect(port) as peer:
        await peer.open(idle_timeout_ms=40)

        kinds = [(await peer.receive())[0] for _ in range(3)]

    assert kinds == [0, 0, 0]
    assert len(EMPTY_FRAME) == 8


async def test_a_reader_that_does_not_read_blocks_no_other(port: int) -> None:
    """A slow reader fills only its own buffers; others continue."""
    async with connect(port) as slow, connect(port) as fast:
        await slow.open()
        await fast.open()
        fast.attach(0, f"{HUB}/Partitions/0", receives=False)
        slow.attach(1, _FEED, receives=True)
        slow.credit(1, 1000)
        for number in range(40):
            fast.transfer(section(DATA, b"x" * 60_000), number=number)
            await fast.next(DISPOSITION)
        slow.credit(1, 1000)

        sizes = [len((await slow.next(TRANSFER))[1]) for _ in range(40)]

    assert min(sizes) > 60_000


async def test_an_empty_batch_is_accepted_and_stores_nothing(port: int) -> None:
    """A batch without events is no error, and takes no sequence number."""
    async with connect(port) as peer:
        await peer.open()
        peer.attach(0, f"{HUB}/Partitions/0", receives=False)
        tag: list[Value] = [UInt(0), UInt(0), b"\0", UInt(BATCH_FORMAT), False, False]
        peer.send(TRANSFER, tag)
        accepted, _ = await peer.next(DISPOSITION)
        peer.attach(1, _FEED, receives=True)
        peer.credit(1, 1, drain=True)
        flow, _ = await peer.next(FLOW)
        while flow[4] != 1:
            flow, _ = await peer.next(FLOW)

    assert accepted[4].descriptor == 0x24
    assert flow[5] == 1


def test_deliveries_have_few_tags_and_ids_of_their_own() -> None:
    """A receiver that keeps the tags of settled deliveries, as the SDK's does, keeps few."""
    deliveries = [
        decode(transfer_body(0, number, b"", more=False))[0] for number in range(0, 70_000, 7)
    ]

    fields = [each.value for each in deliveries if isinstance(each, Described)]
    assert [each[1] for each in fields if isinstance(each, list)] == list(range(0, 70_000, 7))
    assert len({each[2] for each in fields if isinstance(each, list)}) == 256
