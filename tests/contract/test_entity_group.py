"""Transactions on the wire: requests equal those of azure-data-tables."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes
from email.message import Message
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest import HttpRequest
from azure.data.tables import EdmType, UpdateMode
from azure.data.tables.aio import TableServiceClient
from hypothesis import given, settings
from hypothesis import strategies as st

from meter.adapters.tables import TablesRowStore
from meter.ports import Row

KEY = AzureNamedKeyCredential("account", "a2V5")
URL = "https://account.table.core.windows.net"
AZURITE_URL = "http://127.0.0.1:10002/devstoreaccount1"

# Headers that the SDK sends with each operation and the adapter does not. Microsoft's "Performing
# entity group transactions" has none of them in its sample, and its SDK for JavaScript sends none: the
# request around the operations has version, date and signature, and the next delimiter ends a body.
LEFT_OUT = {"x-ms-version", "x-ms-date", "date", "content-length"}
# The inserted row is not sent back then, and the etag is a header, as in Microsoft's SDK for JavaScript.
ADDED = {"prefer": "return-no-content"}


class _CaughtError(Exception):
    """Ends a captured request."""


class Catcher(AsyncHttpTransport[HttpRequest, Any]):
    """Captures the request instead of sending it."""

    def __init__(self) -> None:
        self.caught: list[HttpRequest] = []

    async def send(self, request: HttpRequest, **_options: Any) -> Any:
        self.caught.append(request)
        raise _CaughtError

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def __aexit__(self, *_exc: object) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of a batch, as read by Python's `email` package."""

    line: str
    mime: Mapping[str, str]
    headers: Mapping[str, str]
    entity: object


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The transaction."""

    insert: Sequence[Row] = ()
    update: Sequence[Row] = ()
    delete: Sequence[Row] = ()


async def caught(
    ask: Callable[[TableServiceClient], Awaitable[object]], url: str, credential: Any
) -> HttpRequest:
    """The request built from it, ready to be sent."""
    catcher = Catcher()
    service = TableServiceClient(url, credential=credential, transport=catcher)
    with pytest.raises(_CaughtError):
        await ask(service)
    [request] = catcher.caught
    return request


async def of_the_sdk(
    rows: Rows, *, url: str = URL, partition: str = "p", credential: Any = KEY
) -> HttpRequest:
    def place(row: Row) -> dict[str, object]:
        return {"PartitionKey": partition, "RowKey": row.key}

    def entity(row: Row) -> dict[str, object]:
        return place(row) | {name: of_sdk_type(value) for name, value in row.columns.items()}

    def unchanged(row: Row) -> dict[str, object]:
        return {"etag": row.etag, "match_condition": MatchConditions.IfNotModified}

    merge = {"mode": UpdateMode.MERGE}
    operations: list[Any] = [("create", entity(row)) for row in rows.insert]
    operations += [("update", entity(row), merge | unchanged(row)) for row in rows.update]
    operations += [("delete", place(row), unchanged(row)) for row in rows.delete]
    return await caught(
        lambda service: service.get_table_client("T").submit_transaction(operations),
        url,
        credential,
    )


async def of_ours(
    rows: Rows, *, url: str = URL, partition: str = "p", credential: Any = KEY
) -> HttpRequest:
    return await caught(
        lambda service: TablesRowStore(service).write(
            "T", partition, insert=rows.insert, update=rows.update, delete=rows.delete
        ),
        url,
        credential,
    )


def of_sdk_type(value: object) -> object:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return (value, EdmType.INT64) if is_whole else value


def lower(message: Message) -> dict[str, str]:
    return {name.lower(): str(value) for name, value in message.items()}


def operations_of(request: HttpRequest) -> list[Operation]:
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    [changeset] = parts_of(message_from_bytes(head + request.content))
    found = []
    for part in parts_of(changeset):
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        line, _, message = payload.partition(b"\r\n")
        headers, _, entity = message.partition(b"\r\n\r\n")
        found.append(
            Operation(
                line=line.decode(),
                mime=lower(part),
                headers=lower(message_from_bytes(headers)),
                entity=json.loads(entity) if entity.strip() else None,
            )
        )
    return found


def without_default_types(operation: Operation) -> object:
    """The JSON without the type of texts, which is that of texts without a type."""
    if not isinstance(operation.entity, dict):
        return operation.entity
    return {
        name: value
        for name, value in operation.entity.items()
        if not (name.endswith("@odata.type") and value == "Edm.String")
    }


def parts_of(message: Message) -> list[Message]:
    assert message.get_content_type() == "multipart/mixed"
    assert not message.defects
    parts = message.get_payload()
    assert isinstance(parts, list)
    return [part for part in parts if isinstance(part, Message)]


class AsRead(datetime):
    """A time as the SDK reads it: with the service's own text."""

    tables_service_value = "2026-11-23T07:30:15.1234567Z"


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = TEXT | st.text("'%/ +=~!*(){}|zoë😀\r\n", max_size=8)
KEYS |= st.text("c|-2026T.alice_=~:@/", max_size=20)  # as the app's own are
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=2)), timezone(timedelta(hours=-9.5))])
MOMENTS = st.datetimes(datetime(1601, 1, 3), datetime(9999, 12, 30), timezones=ZONES)  # noqa: DTZ001
WHOLE = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(TEXT, WHOLE, MOMENTS, st.booleans(), st.floats(), st.none())
VALUES |= st.binary(max_size=20) | st.just(AsRead(2026, 11, 23, tzinfo=UTC))
COLUMNS = st.dictionaries(st.from_regex(r"[A-Z][A-Za-z0-9_]{0,9}", fullmatch=True), VALUES)
ETAGS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)).map(lambda s: f'W/"{s}"')
NEW = st.builds(Row, key=KEYS, columns=COLUMNS)
STORED = st.builds(Row, key=KEYS, columns=COLUMNS, etag=ETAGS)


@settings(deadline=None)
@given(
    rows=st.builds(
        Rows,
        insert=st.lists(NEW, max_size=3),
        update=st.lists(STORED, max_size=3),
        delete=st.lists(STORED, max_size=3),
    ).filter(lambda rows: rows != Rows(insert=[], update=[], delete=[])),
    partition=KEYS,
    url=st.sampled_from([URL, AZURITE_URL]),
)
async def test_operations_are_those_of_the_sdk(rows: Rows, partition: str, url: str) -> None:
    """Request line, address, headers and JSON of each are equal, except for optional headers."""
    theirs = operations_of(await of_the_sdk(rows, partition=partition, url=url))
    ours = operations_of(await of_ours(rows, partition=partition, url=url))

    assert [part.line for part in ours] == [part.line for part in theirs]
    assert [part.entity for part in ours] == [without_default_types(part) for part in theirs]
    assert [part.headers for part in ours] == [
        {name: value for name, value in part.headers.items() if name not in LEFT_OUT}
        | (ADDED if part.line.startswith("POST") else {})
        for part in theirs
    ]
    assert [{**part.mime, "content-id": str(n)} for n, part in enumerate(ours)] == [
        part.mime for part in theirs
    ]


class Identity:
    """A sign-in that hands out one token."""

    async def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
        return AccessToken("token", 2**40)

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> "Identity":
        return self

    async def __aexit__(self, *_exc: object) -> None:
        pass


VARYING = {"content-type", "content-length", "x-ms-client-request-id"}
DATED = {"x-ms-date", "date", "authorization"}


@pytest.mark.parametrize(
    ("credential", "query", "authorization"),
    [
        (KEY, "", "SharedKey account:"),
        (AzureSasCredential("sv=1&sig=x%3D"), "?sv=1&sig=x%3D", None),
        (Identity(), "", "Bearer token"),
    ],
    ids=["key", "sas", "identity"],
)
async def test_the_request_around_them_is_that_of_the_sdk(
    credential: Any, query: str, authorization: str | None
) -> None:
    """Address, headers and authentication are the same, for every kind of credential."""
    rows = Rows(insert=[Row(key="a", columns={})])
    theirs = await of_the_sdk(rows, credential=credential)
    ours = await of_ours(rows, credential=credential)
    headers = {
        name: {k.lower(): v for k, v in request.headers.items() if k.lower() not in VARYING}
        for name, request in (("theirs", theirs), ("ours", ours))
    }

    assert (ours.method, ours.url) == (theirs.method, theirs.url)
    assert ours.url == f"{URL}/$batch{query}"
    assert headers["ours"].keys() == headers["theirs"].keys()
    for name in headers["ours"].keys() - DATED:
        assert headers["ours"][name] == headers["theirs"][name]
    assert ours.headers["Content-Type"].startswith("multipart/mixed; boundary=batch_")
    assert ours.headers.get("Authorization", "").startswith(authorization or "")


async def test_other_requests_keep_the_policies_of_the_sdk() -> None:
    """A policy knows the one after it: shared, the transactions' would end the chain of the others."""
    asked: list[Mapping[str, object]] = []

    class Listener(Catcher):
        async def send(self, request: HttpRequest, **options: Any) -> Any:
            asked.append({**request.headers, **options})
            return await super().send(request)

    store = TablesRowStore(TableServiceClient(URL, credential=KEY, transport=Listener()))
    with pytest.raises(_CaughtError):
        await store.write("T", "p", insert=[Row(key="a", columns={})])
    with pytest.raises(_CaughtError):
        await store.read("T", "p", ["a"])

    assert [each.get("raw_response_hook") for each in asked] == [None, None]
    assert all(each["x-ms-client-request-id"] for each in asked)


async def test_each_store_has_boundaries_of_its_own() -> None:
    """They cannot be foreseen; the SDK's are unique, but no line of a part begins with any."""
    rows = Rows(insert=[Row(key="a", columns={})])
    types = {(await of_ours(rows)).headers["Content-Type"] for _ in range(2)}

    assert len(types) == 2


def test_an_sdk_without_the_pipeline_is_reported_at_once() -> None:
    """Reported by name when the store is built, not as an outage of Table Storage."""
    with pytest.raises(RuntimeError, match=r"azure-data-tables has no pipeline .*_client"):
        TablesRowStore(SimpleNamespace(url=URL))  # type: ignore[arg-type]  # an SDK of tomorrow
