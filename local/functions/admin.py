"""The host's own addresses, which no function serves: they need a key, as in the real host.

| address                                     | without the key | with it                         |
|---------------------------------------------|-----------------|---------------------------------|
| `/admin/host/ping`                          | 200             | 200                             |
| `POST /admin/functions/NAME`                | 401             | runs the function: 202, or 404  |
| `/admin/{functions,host,keys,vfs}...`, `/runtime/webhooks/...` | 401 | 404                   |
| any other                                   | a function's    | a function's                    |
"""

import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qs

KEY_HEADER = "x-functions-key"
KEY_VARIABLE = "LOCAL_ADMIN_KEY"
_OWN = ("/admin/functions", "/admin/host", "/admin/keys", "/admin/vfs", "/runtime/webhooks")
_RUN = "/admin/functions/"

type RunByName = Callable[[str, object], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminRequest:
    """A request to one of the host's own addresses."""

    method: str
    path: str
    query: str
    key: str


class Admin:
    """Answers the host's own addresses. An empty key lets nobody in."""

    def __init__(self, key: str, run_by_name: RunByName) -> None:
        self._key = key.encode()
        self._run_by_name = run_by_name

    async def status(self, request: AdminRequest, read: Callable[[], Awaitable[bytes]]) -> int:
        """Do what is asked and return the answer's status; it has no body."""
        if request.path.lower() == "/admin/host/ping":
            return 200
        if not self._is_known(request):
            return 401
        if request.method != "POST" or not request.path.lower().startswith(_RUN):
            return 404
        try:
            document = json.loads(await read() or b"{}")
        except ValueError:
            return 400
        argument = document.get("input", "") if isinstance(document, dict) else ""
        return 202 if await self._run_by_name(request.path[len(_RUN) :], argument) else 404

    def _is_known(self, request: AdminRequest) -> bool:
        given = request.key or next(iter(parse_qs(request.query).get("code", ())), "")
        return bool(self._key) and hmac.compare_digest(given.encode(), self._key)


def is_own(path: str) -> bool:
    """Whether the host answers this path itself, whatever routes the functions have."""
    lower = path.lower()
    return any(lower == own or lower.startswith(f"{own}/") for own in _OWN)
