"""What the Functions host does with the app's calls and settings.

Its `functionTimeout` ends a call. It reads the proxy variables among the app's settings, and then its own
forwards to the worker, tokens and bodies included, go to that proxy (.NET's `HttpClient`, whose default
proxy is theirs).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from meter.config.reader import Reader
from meter.patterns import lazy_pattern

HOST_JSON = Path(__file__).parents[2] / "host.json"
# Overrides host.json, as each of its values can be (Microsoft Learn, host.json reference).
OVERRIDE = "AzureFunctionsJobHost__functionTimeout"
_PROXIES = ("HTTP_PROXY", "ALL_PROXY")
_WORKER = frozenset({"127.0.0.1", "localhost"})
# On Linux App Service makes underscores of periods in the names of settings.
_DISABLED = lazy_pattern(r"AzureWebJobs[._](\w+)[._]Disabled", re.ASCII | re.IGNORECASE)
_TIME = lazy_pattern(r"(?:(\d{1,3})\.)?(\d{1,2}):(\d{1,2}):(\d{1,2})", re.ASCII)


def function_timeout_seconds(reader: Reader, host_json: Path = HOST_JSON) -> float:
    """Seconds after which the host ends an invocation; infinite without a host or a limit."""
    text = reader.text(OVERRIDE) or _in_file(host_json)
    match = _TIME.fullmatch(text)
    if match is None:
        return float("inf")  # -1: no limit
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def disabled_functions(environment: Mapping[str, str]) -> frozenset[str]:
    """The functions that the host does not start, as `AzureWebJobs.NAME.Disabled` says."""
    return frozenset(
        match[1].lower()
        for name, value in environment.items()
        if value.strip().lower() in {"true", "1"} and (match := _DISABLED.fullmatch(name))
    )


def proxy_warnings(environment: Mapping[str, str]) -> tuple[str, ...]:
    """What is wrong where the host would send its forwards to a proxy; nothing where it would not."""
    given = {name: value for name, value in environment.items() if value.strip()}
    proxies = sorted({name.upper(): name for name in given if name.upper() in _PROXIES}.values())
    # As .NET reads them: only commas separate, case is ignored, and `*` is no pattern.
    excepted = [
        {host.strip().lower() for host in value.split(",")}
        for name, value in given.items()
        if name.upper() == "NO_PROXY"
    ]
    if not proxies or (excepted and all(map(_WORKER.issubset, excepted))):
        return ()
    return (
        f"{' and '.join(proxies)} would send the Functions host's own calls to the worker, tokens and "
        "bodies included, to that proxy: set NO_PROXY=127.0.0.1,localhost beside it, and add what else "
        "must not go there",
    )


def _in_file(host_json: Path) -> str:
    try:
        document = json.loads(host_json.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(document.get("functionTimeout", "")) if isinstance(document, dict) else ""
