"""What .NET's SDK, with which the real Functions host reads, asks of the endpoint, frame by frame.

The SDK itself is not part of the suite: each frame is of the form in which it was seen to send it.
"""

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from local.eventhubs import Endpoint
from local.eventhubs.codec import Value, decode
from local.eventhubs.message import (
    APPLICATION_PROPERTIES,
    DATA,
    PROPERTIES,
    VALUE,
    read_sections,
    section,
)
from tests.local.eventhubs.peer import ATTACH, DETACH, DISPOSITION, TRANSFER, Peer, connect
from tests.local.eventhubs.test_harness import (
    CONFIG,
    FIRST_MS,
    HUB,
    KEY,
    KEY_NAME,
    SteppingClock,
)

_FEED = f"{HUB}/ConsumerGroups/$Default/Partitions/0"
_EXPIRES = 4_000_000_000
_MARK = b"the last"


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    endpoint = Endpoint(CONFIG, tmp_path, KEY_NAME, KEY, now_ms=SteppingClock())
    yield await endpoint.start()
    await endpoint.stop()


def signature(key: str = KEY) -> str:
    """A token as the SDKs sign it."""
    resource = quote_plus(f"amqps://localhost/{HUB}")
    digest = hmac.digest(key.encode(), f"{resource}\n{_EXPIRES}".encode(), hashlib.sha256)
    sig = quote(b64encode(digest), safe="")
    return f"SharedAccessSignature sr={resource}&sig={sig}&se={_EXPIRES}&skn={KEY_NAME}"


@pytest.mark.parametrize(
    ("selector", "first"),
    [
        ("amqp.annotation.x-opt-offset > -1", 0),
        ("amqp.annotation.x-opt-offset > @latest", 3),
        ("amqp.annotation.x-opt-offset > {offset}", 2),
        ("amqp.annotation.x-opt-offset >= {offset}", 1),
        ("amqp.annotation.x-opt-sequence-number > 0", 1),
        ("amqp.annotation.x-opt-sequence-number >= 2", 2),
        ("amqp.annotation.x-opt-sequence-number > -1", 0),
        ("amqp.annotation.x-opt-enqueued-time > {time}", 2),
        ("amqp.annotation.x-opt-enqueued-time > '{time}'", 2),
    ],
)
async def test_a_position_needs_no_quotes(port: int, selector: str, first: int) -> None:
    """The SDK writes numbers and `@latest` bare; `offset` and `time` are those of event 1."""
    async with connect(port) as peer:
        await peer.open()
        await _store(peer, b"0", 0)
        await _store(peer, b"1", 1)
        await _store(peer, b"2", 2)
        known = await _annotations_of(peer, 1)
        place = {"offset": known["x-opt-offset"], "time": known["x-opt-enqueued-time"]}
        peer.attach(2, _FEED, receives=True, selector=selector.format(**place))
        peer.credit(2, 1)
        await peer.next(ATTACH)
        peer.transfer(section(DATA, _MARK), number=3)
        _, payload = await peer.next(TRANSFER)

    assert known["x-opt-enqueued-time"] > FIRST_MS
    assert payload.endswith(_MARK if first == 3 else str(first).encode())


@pytest.mark.parametrize("value", ["'1", "1'", "one", "1 2", "", "''"])
async def test_what_is_no_position_is_refused(port: int, value: str) -> None:
    """Without quotes, too, only a number or `@latest` is a place in a partition."""
    selector = f"amqp.annotation.x-opt-sequence-number > {value}"
    async with connect(port) as peer:
        await peer.open()
        peer.attach(2, _FEED, receives=True, selector=selector)
        detached, _ = await peer.next(DETACH)

    assert detached[2].value[0] == "com.microsoft:argument-error"


@pytest.mark.parametrize(
    ("token", "status"),
    [
        (signature(), 200),
        ("eyJhbGciOiJub25lIn0.e30.", 200),
        (signature("another key"), 401),
        ("nonsense", 401),
        (None, 401),
    ],
)
async def test_a_management_request_brings_its_own_token(
    port: int, token: str | None, status: int
) -> None:
    """The SDK puts no token to `$cbs` for `$management`; the request's is checked instead."""
    async with connect(port) as peer:
        await peer.open_unauthenticated()
        await _attach_management(peer)
        _ask(peer, 0, name=HUB, token=token)
        answer = await _answer(peer)

    assert answer["status-code"] == status


async def test_a_token_of_a_request_opens_no_link(port: int) -> None:
    """It is for that request alone: hubs stay closed until a token was put to `$cbs`."""
    async with connect(port) as peer:
        await peer.open_unauthenticated()
        await _attach_management(peer)
        _ask(peer, 0, name=HUB, token=signature())
        await _answer(peer)
        peer.attach(3, _FEED, receives=True)
        detached, _ = await peer.next(DETACH)

    assert detached[2].value[0] == "amqp:unauthorized-access"


async def test_a_wrong_token_of_a_request_is_refused_on_an_open_connection(port: int) -> None:
    """Access that was granted before does not make a wrong token right."""
    async with connect(port) as peer:
        await peer.open()
        await _attach_management(peer)
        _ask(peer, 0, name=HUB, token=signature("another key"))
        _ask(peer, 1, name=HUB, token=None)
        answers = [await _answer(peer), await _answer(peer)]

    assert [answer["status-code"] for answer in answers] == [401, 200]


async def test_an_unknown_hub_is_named_in_the_words_that_the_sdk_recognizes(port: int) -> None:
    """It takes 404 for a missing entity only with these words; else it retries for seconds."""
    async with connect(port) as peer:
        await peer.open_unauthenticated()
        await _attach_management(peer)
        _ask(peer, 0, name="no-such-hub", token=signature())
        answer = await _answer(peer)

    assert answer["status-code"] == 404
    assert re.match("The messaging entity .* could not be found", answer["status-description"])


@pytest.mark.parametrize(
    ("address", "receives", "asked", "answered"),
    [
        ("$cbs", False, 1, 1),
        ("$management", False, 1, 1),
        (f"{HUB}/Partitions/0", False, 1, 1),
        (HUB, False, 0, 0),
        (HUB, False, 2, 2),
        (HUB, False, None, 2),
        ("$management", True, 1, 1),
        (_FEED, True, 0, 1),
        (_FEED, True, None, 1),
    ],
)
async def test_the_sender_decides_how_deliveries_are_settled(
    port: int, address: str, receives: bool, asked: int | None, answered: int
) -> None:
    """The SDK goes by the answer; told `unsettled`, it keeps requests whose keys collide."""
    async with connect(port) as peer:
        await peer.open()
        peer.attach(0, address, receives=receives, settle_mode=asked)
        attached, _ = await peer.next(ATTACH)

    assert attached[3] == answered


async def test_two_settled_requests_at_once_get_their_own_answers(port: int) -> None:
    """No delivery of a settled link is answered with a verdict, each request with its answer."""
    async with connect(port) as peer:
        await peer.open_unauthenticated()
        await _attach_management(peer)
        _ask(peer, 0, name=HUB, token=signature())
        _ask(peer, 1, name=HUB, token=signature(), partition="3")
        frames = [await peer.receive() for _ in range(2)]

    assert [code for code, _, _ in frames] == [TRANSFER, TRANSFER]
    described = [_sections(payload) for _, _, payload in frames]
    assert [sections[PROPERTIES][5] for sections in described] == ["request-0", "request-1"]
    assert described[0][VALUE]["partition_count"] == 4
    assert described[1][VALUE]["partition"] == "3"


async def _attach_management(peer: Peer) -> None:
    peer.attach(0, "$management", receives=False, settle_mode=1)
    peer.attach(1, "$management", receives=True, settle_mode=1)
    peer.credit(1, 50)
    await peer.next(ATTACH)
    await peer.next(ATTACH)


def _ask(
    peer: Peer, number: int, *, name: str, token: str | None, partition: str | None = None
) -> None:
    """Ask for a hub, or for one of its partitions."""
    kind = "eventhub" if partition is None else "partition"
    asked: dict[Value, Value] = {
        "operation": "READ",
        "name": name,
        "type": f"com.microsoft:{kind}",
        "partition": partition,
        "security_token": token,
    }
    request = section(PROPERTIES, [f"request-{number}", None, None, None, "peer"])
    request += section(APPLICATION_PROPERTIES, {k: v for k, v in asked.items() if v is not None})
    peer.transfer(request, number=number, settled=True)


async def _answer(peer: Peer) -> dict[str, Any]:
    _, payload = await peer.next(TRANSFER)
    properties: dict[str, Any] = _sections(payload)[APPLICATION_PROPERTIES]
    return properties


def _sections(payload: bytes) -> dict[int, Any]:
    return {code: decode(encoded)[0] for code, encoded in read_sections(payload)}


async def _store(peer: Peer, body: bytes, number: int) -> None:
    if number == 0:
        peer.attach(0, f"{HUB}/Partitions/0", receives=False)
    peer.transfer(section(DATA, body), number=number)
    await peer.next(DISPOSITION)


async def _annotations_of(peer: Peer, sequence_number: int) -> dict[str, Any]:
    """Read with quotes where an event is, and detach again."""
    selector = f"amqp.annotation.x-opt-sequence-number >= '{sequence_number}'"
    peer.attach(1, _FEED, receives=True, selector=selector)
    peer.credit(1, 1)
    await peer.next(ATTACH)
    _, payload = await peer.next(TRANSFER)
    annotations: dict[str, Any] = _sections(payload)[0x72]
    return annotations
