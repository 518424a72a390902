"""GETs JSON documents with `requests`, for commands, which have no event loop: bounded and repeated."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import requests
import urllib3

from meter.errors import MeterError
from meter.terminal import printable

RETRIED = frozenset({408, 429, 500, 502, 503, 504, 529})
BACKOFF_SECONDS = (1.0, 2.0, 4.0, 8.0)
MOST_WAIT_SECONDS = 60.0
MAX_QUOTED_CHARS = 300
_READ_BYTES = 65_536

type Document = dict[str, object]
type Authorize = Callable[[requests.PreparedRequest], requests.PreparedRequest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits of one answer: times to connect, without a byte and in all, and its size."""

    connect_seconds: float = 3.05
    silence_seconds: float = 30.0
    total_seconds: float = 60.0
    document_bytes: int = 33_554_432


@dataclass(frozen=True, slots=True)
class Refused:
    """A failure that does not pass."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class _Later:
    """A failure that may pass; `after_seconds` is the wait that the service named."""

    reason: str
    after_seconds: float | None = None


class JsonGet:
    """One service's documents. `unavailable` is raised where it cannot give one."""

    def __init__(
        self,
        service: str,
        unavailable: Callable[[str], MeterError],
        *,
        bounds: Bounds,
        sleep: Callable[[float], None],
        is_local: bool,
        parse_float: Callable[[str], object] = float,
    ) -> None:
        self._service = service
        self._unavailable = unavailable
        self._bounds = bounds
        self._sleep = sleep
        self._parse_float = parse_float
        self._session = requests.Session()
        # A proxy from the environment is for requests to Azure, not to this machine.
        self._session.trust_env = not is_local

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def get(self, url: str, what: str, authorize: Authorize | None = None) -> Document | Refused:
        """The document, after repeats of failures that may pass; messages name the service and `what`."""
        said = ", ".join(filter(None, (self._service, what)))
        backoff = iter(BACKOFF_SECONDS)
        while isinstance(answer := self._try(url, said, authorize), _Later):
            self._wait(answer, next(backoff, None), said)
        return answer

    def _wait(self, later: _Later, backoff: float | None, said: str) -> None:
        if backoff is None:
            raise self._unavailable(
                f"{said}: {later.reason}; given up after {len(BACKOFF_SECONDS) + 1} attempts"
            )
        seconds = backoff if later.after_seconds is None else later.after_seconds
        if seconds > MOST_WAIT_SECONDS:
            raise self._unavailable(f"{said}: {later.reason}; it asks to wait {seconds:.0f} s")
        self._sleep(seconds)

    def _try(self, url: str, said: str, authorize: Authorize | None) -> Document | _Later | Refused:
        try:
            with self._session.get(
                url,
                # Passed as `auth`, because a .netrc file of the machine would replace a plain header.
                auth=authorize or _as_it_is,
                timeout=(self._bounds.connect_seconds, self._bounds.silence_seconds),
                allow_redirects=False,
                stream=True,
            ) as response:
                body = self._read(response)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as exc:
            return _Later(f"no answer ({type(exc).__name__})")
        status = response.status_code
        if status == 200:
            return self._parsed(body, said)
        if status in RETRIED:
            return _Later(f"{status} {_error_text(body)}".strip(), _retry_after(response))
        return Refused(status, f"{said}: {status} {_error_text(body)}".rstrip())

    def _read(self, response: requests.Response) -> bytes:
        """The body, within the limits of size and total time; the client's own timeout is per read."""
        deadline = time.monotonic() + self._bounds.total_seconds
        body = b""
        while part := response.raw.read1(_READ_BYTES, decode_content=True):
            body += part
            if len(body) > self._bounds.document_bytes:
                raise self._unavailable(f"{self._service}'s answer is too large")
            if time.monotonic() > deadline:
                raise requests.Timeout
        return body

    def _parsed(self, body: bytes, said: str) -> Document:
        try:
            document = json.loads(body, parse_float=self._parse_float)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise self._unavailable(f"{said}: the answer is no JSON object")
        return document


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None


def _error_text(body: bytes) -> str:
    """The service's error text. Azure Resource Manager nests it, other services do not."""
    try:
        document = json.loads(body)
        error = document.get("error", document)
        text = f"{error.get('code', '')}: {error.get('message', '')}".strip(": ")
        return printable(text, most=MAX_QUOTED_CHARS)
    except (ValueError, AttributeError, RecursionError):
        return ""
