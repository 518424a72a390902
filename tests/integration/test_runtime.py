"""The web extension in Microsoft's own runtime."""

import json
import subprocess
import sys
from typing import Any

from azure_functions_runtime.http_v2 import HttpCoordinator

from meter.adapters.functions import web
from tests.support.running import REPOSITORY


def _probe(requests: int, mode: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.runtime_probe", str(requests), mode],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_runtime_holds_nothing_of_finished_requests() -> None:
    """5,000 requests through the real runtime: its coordinator holds no reference afterwards."""
    seen = _probe(5000, "repair")

    assert seen["statuses"] == {"200": 5000}
    assert seen["held"] == 0


def test_the_runtime_would_hold_every_request_without_the_repair() -> None:
    """The leak is real, so the test above can fail; when this test fails, the runtime has fixed it."""
    seen = _probe(200, "leave")

    assert seen["held"] == 200


def test_the_private_attribute_is_still_where_the_repair_looks() -> None:
    """A renamed attribute would bring the leak back silently."""
    coordinator = HttpCoordinator()

    assert HttpCoordinator.__module__ == web.COORDINATOR_MODULE
    assert isinstance(getattr(coordinator, web.REFERENCES), dict)
