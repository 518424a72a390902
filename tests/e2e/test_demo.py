"""The demo succeeds in any shell: it has its own settings, and waits for what is late."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.running import REPOSITORY

# The settings of another stack, a typo, and a timeout so short that events go through the outbox.
SHELL = {
    "METER_ISSUERS": "https://login.example/t/v2.0",
    "METER_AUDIENCES": "api://other",
    "METER_BACKENDS": "/no/such/file",
    "METER_PUBLISH_TIMEOUT_SECONDS": "0.05",
    "METER_REQUIRED_ROLE": "Nobody.Has.It",
    "MeterStorage": "AccountName=other;AccountKey=b3RoZXI=",
    "EventHubConnection": "Endpoint=sb://other.example/;SharedAccessKey=key",
    "AzureWebJobsStorage": "UseDevelopmentStorage=true",
    "LOCAL_BACKEND_KEY": "other",
}


def test_the_demo_ignores_the_settings_of_its_shell(tmp_path: Path) -> None:
    """Those of a running stack are there after `eval "$(python -m local env)"`. Its report is in money."""
    done = subprocess.run(
        [sys.executable, "-m", "local", "demo", "--state", str(tmp_path / "demo")],
        cwd=REPOSITORY,
        env={**os.environ, **SHELL},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("demo: 61 calls, ")
    assert done.stdout.endswith(" tokens, totals match\n")
    report = done.stdout.partition("EXAMPLE prices, made up")[2]
    assert "cost USD" in report
    assert "no price for" not in report
    assert max(map(len, report.splitlines())) <= 80
