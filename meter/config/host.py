"""What the Functions host allows the app: its `functionTimeout`, after which it ends a call."""

import json
import re
from pathlib import Path

from meter.config.reader import Reader

HOST_JSON = Path(__file__).parents[2] / "host.json"
# Overrides host.json, as each of its values can be (Microsoft Learn, host.json reference).
OVERRIDE = "AzureFunctionsJobHost__functionTimeout"
_TIME = re.compile(r"(?:(\d{1,3})\.)?(\d{1,2}):(\d{1,2}):(\d{1,2})", re.ASCII)


def function_timeout_seconds(reader: Reader, host_json: Path = HOST_JSON) -> float:
    """Seconds after which the host ends an invocation; infinite without a host or a limit."""
    text = reader.text(OVERRIDE) or _in_file(host_json)
    match = _TIME.fullmatch(text)
    if match is None:
        return float("inf")  # -1: no limit
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _in_file(host_json: Path) -> str:
    try:
        document = json.loads(host_json.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(document.get("functionTimeout", "")) if isinstance(document, dict) else ""
