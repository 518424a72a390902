"""What a command says when storage does not let it in: what is missing, and how to get it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.data.tables.aio import TableServiceClient
from azure.identity import CredentialUnavailableError

from meter.__main__ import main
from meter.adapters.tables import TablesRowStore
from meter.errors import (
    AccessDenied,
    LedgerDamaged,
    MeterError,
    NotSignedIn,
    StorageUnavailable,
)
from meter.ports import Row
from tests.support.entity_group import odata_error

ADJUST = ["adjust", "--subject", "s", "--call", "01a20983-494f-7586-86d9-4f0a7a0150bc"]
ADJUST += ["--reason", "r", "--prompt-tokens", "1"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["report"],
            "MeterStorage; the role is Storage Table Data Reader on the data account",
        ),
        (
            ["unpublished", "--publish", os.devnull],
            "EventHubConnection; the role is Azure Event Hubs Data Sender on the event hub",
        ),
    ],
)
def test_without_a_sign_in_it_says_what_to_do_in_one_line(words: list[str], text: str) -> None:
    """A process of its own, with an identity that is nobody's; no session stays open."""
    ours = ("Storage", "EventHub", "METER_")
    environment = {
        name: value for name, value in os.environ.items() if not any(word in name for word in ours)
    }
    environment |= {
        "MeterStorage__tableServiceUri": "https://contoso.table.core.windows.net",
        "EventHubConnection__fullyQualifiedNamespace": "contoso.servicebus.windows.net",
        # One kind of identity, which has no settings: no network and no wait.
        "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
    }
    done = subprocess.run(
        [sys.executable, "-m", "meter", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: not signed in to Azure: run `az login`, or set {text}\n"


class NoIdentity:
    """A credential that has no token to give."""

    closed = False

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def get_token(self, *_scopes: str, **_options: object) -> None:
        raise self.error

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("error", [ClientAuthenticationError("no"), CredentialUnavailableError()])
@pytest.mark.parametrize("operation", ["read", "write", "scan", "names"])
async def test_an_identity_without_a_token_is_no_silent_storage(
    error: Exception, operation: str
) -> None:
    """Each method says so; the identity is closed with the store."""
    identity = NoIdentity(error)
    service = TableServiceClient("https://contoso.table.core.windows.net", credential=identity)  # type: ignore[arg-type]  # all that the SDK asks of it
    store = TablesRowStore(service, identity)  # type: ignore[arg-type]  # the same
    with pytest.raises(NotSignedIn, match="no identity gave a token"):
        await _use(store, operation)
    await store.close()

    assert identity.closed


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "AuthorizationPermissionMismatch"),
        (403, "AuthorizationFailure"),
        (403, "AuthenticationFailed"),
        (401, "InvalidAuthenticationInfo"),
        (403, ""),
    ],
)
@pytest.mark.parametrize("operation", ["read", "write", "scan", "names"])
async def test_storage_that_refuses_is_told_from_one_that_is_silent(
    status: int, code: str, operation: str
) -> None:
    """With its own code, if it gives one."""
    async with refusing(status, code) as store:
        with pytest.raises(AccessDenied, match=str(status)) as refused:
            await _use(store, operation)

    assert refused.value.code == code


async def _use(store: TablesRowStore, operation: str) -> None:
    match operation:
        case "read":
            await store.read("T", "p", ["a"])
        case "write":
            await store.write("T", "p", insert=[Row(key="a", columns={})])
        case "scan":
            _ = [row async for row in store.scan("T", first_partition="a", last_partition="b")]
        case _:
            await store.names("T")


@asynccontextmanager
async def refusing(status: int, code: str) -> AsyncIterator[TablesRowStore]:
    """A store on a service that answers every request so."""
    body = odata_error(code).encode() if code else b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} Reason\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    text = f"AccountName=a;AccountKey=c2VjcmV0;TableEndpoint=http://127.0.0.1:{port}/a"
    store = TablesRowStore(TableServiceClient.from_connection_string(text, retry_total=0))
    async with server:
        yield store
        await store.close()


@pytest.mark.parametrize(
    ("error", "words", "text"),
    [
        (
            AccessDenied("UsageByMonth: query 403", code="AuthorizationPermissionMismatch"),
            ["report"],
            "signed in to Azure, but without the role Storage Table Data Reader on the data account",
        ),
        (
            AccessDenied("Ledger202611: write 403", code="AuthorizationPermissionMismatch"),
            ADJUST,
            "signed in to Azure, but without the role Storage Table Data Contributor",
        ),
        (
            AccessDenied("list tables 403", code="AuthorizationPermissionMismatch"),
            ["rebuild", "--month", "2026-11", "--dry-run"],
            "signed in to Azure, but without the role Storage Table Data Reader",
        ),
        (
            AccessDenied(
                "UsageByMonth: query AuthenticationFailed 403", code="AuthenticationFailed"
            ),
            ["report"],
            "table storage refused the key, the sign-in or this network: UsageByMonth: query Auth",
        ),
        (
            NotSignedIn("list tables: no identity gave a token"),
            ["deadletters", "replay"],
            "not signed in to Azure: run `az login`, or set MeterStorage; the role is Storage Table "
            "Data Contributor on the data account",
        ),
        (StorageUnavailable("x: read"), ["report"], "table storage did not answer: x: read"),
        (
            LedgerDamaged(
                "a whole number is expected, got 'x\x1b'",
                table="UsageByMonth",
                partition="2026-11",
                row="alice",
                column="Calls",
            ),
            ["report"],
            "UsageByMonth, partition 2026-11, row alice, column Calls: a whole number is expected",
        ),
    ],
)
def test_a_refusal_is_one_line_that_says_what_is_missing(
    error: MeterError,
    words: list[str],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A role, a sign-in, an answer or a sound cell: each is another thing to do."""

    def refused(*_: object) -> None:
        raise error

    monkeypatch.setattr("meter.adapters.clients.build_store", refused)
    monkeypatch.setenv("MeterStorage", "AccountName=a;AccountKey=c2VjcmV0")
    code = main(words)

    shown = capsys.readouterr()
    assert (code, shown.out) == (1, "")
    assert shown.err.startswith(f"error: {text}")
    assert shown.err.count("\n") == 1
    assert "\x1b" not in shown.err
