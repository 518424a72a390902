"""The web extension in Microsoft's own runtime: nothing is held, and nothing waits for ever."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from azure_functions_runtime import handle_event, http_v2

from meter.adapters.functions import rendezvous
from tests.support.running import REPOSITORY


def _probe(mode: str, calls: int, **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.runtime_probe", mode, str(calls)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_runtime_holds_nothing_of_finished_requests() -> None:
    """5,000 requests through the real runtime: nothing refers to them afterwards, not even a cycle."""
    seen = _probe("met", 5000)

    held = {"references": 0, "meeting": 0, "garbage": 0}
    assert seen == {"statuses": {"200": 5000}, "reads_times": True, **held}


def test_the_runtime_would_hold_every_request_by_itself() -> None:
    """The leak is real, so the test above can fail; when this test fails, the runtime has fixed it.

    It also shows that a runtime whose parts have changed still serves.
    """
    seen = _probe("unreplaced", 200)

    assert seen["statuses"] == {"200": 200}
    assert seen["references"] == 200


def test_invocations_whose_requests_never_come_end_and_leave_nothing() -> None:
    """Three times 1,000, with the wait at 3 s, beside normal calls.

    That is what a worker that was not listening, and a kept connection that closes as the next POST
    goes out, leave in the runtime: an invocation without a request.
    """
    seen = _probe("alone", 1000)

    assert seen["errors"] == {"RequestNeverCame: the host forwarded no request within 3 s": 3000}
    assert seen["statuses"] == {"200": 800}
    assert (seen["references"], seen["meeting"], seen["tasks"]) == (0, 0, 0)
    _, second, third = seen["sizes"]
    assert third - second < 100 * 1000, "bytes; a held context is over 1,000 bytes"


def test_no_connection_closes_as_the_host_sends_on_it(yarp_front: Path) -> None:
    """POSTs on connections that were idle for 5 s, at which uvicorn closes them by itself.

    The host cannot send a body again, so such a call is lost: up to 2.2 % were.
    """
    seen = _probe("idle", 900, YARP_FRONT=str(yarp_front))

    assert seen == {"statuses": {"405": 900}, "delivered": 900, "doubled": 0}


def test_the_replaced_methods_are_those_the_runtime_calls() -> None:
    """A runtime that changes them would bring back the wait without end, silently."""
    coordinator = getattr(http_v2, rendezvous.COORDINATOR)
    called = inspect.getsource(handle_event.invocation_request)

    assert http_v2.__name__ == rendezvous.COORDINATOR_MODULE
    assert handle_event.http_coordinator is coordinator
    assert called.count("http_coordinator.") == 3
    assert called.count(f"await http_coordinator.{rendezvous.TAKE}(\n") == 1
    assert called.count(f"http_coordinator.{rendezvous.GIVE}(invocation_id, ") == 2
    take, give = (getattr(type(coordinator), name) for name in (rendezvous.TAKE, rendezvous.GIVE))
    assert list(inspect.signature(take).parameters) == ["self", "invoc_id"]
    assert list(inspect.signature(give).parameters) == ["self", "invoc_id", "http_response"]
