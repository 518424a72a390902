"""The exceptions that cross a port or reach an entry point.

MeterError
  InvalidSettings        settings are missing or invalid; carries every problem found
  InvalidInput           files given to a command cannot be used; carries every problem found
  CallerError            the call is answered with an error of the gateway
    Unauthenticated        401
    Forbidden              403
    NotServed              404: unknown path, operation or deployment
    BadRequest             400
    MethodNotAllowed       405, with the methods that are allowed
    EncodingRefused        415: a packed body
    UpgradeRefused         426: a WebSocket handshake
    TooLarge               413, 414, 431; 408 or 400 for a body that does not arrive whole
    Overloaded             429 or 503 with a wait
    UsageUnavailable       503 with a wait: the caller's own usage cannot be read
  CallerGone             the caller closed its connection
  AnswerCut              the connection must be broken off before the answer's end
  UpstreamError          a backend gave no usable answer
    UpstreamUnreachable    no connection
    UpstreamTimeout        no first byte in time
    UpstreamBroken         the answer was cut
  KeysUnavailable        an issuer's key set has never been loaded
  PublishFailed          Event Hubs did not acknowledge in time
  HubUnavailable         Event Hubs did not say what it holds
  StorageUnavailable     Table Storage did not answer, or contention did not end
    NotSignedIn            no identity gave a token for it
    AccessDenied           it refused the key or the identity
    RowsRefused            it refused these rows for what they hold: a repeat fares no better
  TableMissing           the table does not exist, and the write may not create it
  LedgerDamaged          a stored cell is not what the app writes, or cannot hold what is added
  MonitorUnavailable     Azure Monitor did not answer, or gave no usable numbers
  PricesUnavailable      Azure's Retail Prices API did not answer, or gave no usable prices
  LedgerMissing          a month has no ledger to rebuild it from
  ExportUnavailable      the place of an export cannot be read or written
    ExportHeld             another process writes to it
  ExportRefused          the export there is of another kind, or newer than this program
  AmbiguousPrice         rows of one price file are equally good for some usage
"""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType

from msgspec import Struct


class MeterError(Exception):
    """Base of everything this package raises on purpose."""


class Problem(Struct, frozen=True):
    """What is wrong with one setting; `detail` says where, for operators only."""

    setting: str
    text: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.setting} {self.text}" + (f" ({self.detail})" if self.detail else "")


class InvalidSettings(MeterError):
    """Settings are missing or invalid; `found` has every problem, `problems` their texts."""

    def __init__(self, found: Sequence[Problem]) -> None:
        self.found = tuple(found)
        self.problems = tuple(map(str, found))
        super().__init__("; ".join(self.problems))


class InvalidInput(MeterError):
    """Files given to a command cannot be used; each of `problems` is one line that names its file."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class ErrorKind(StrEnum):
    """What an error of the front door is about: the value of `x-meter-error`, listed in docs/api.md."""

    BAD_REQUEST = "bad_request"
    TOKEN = "token"  # noqa: S105  # a word for an answer, not a secret
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    DEPLOYMENT = "deployment"
    METHOD = "method"
    ENCODING = "encoding"
    UPGRADE = "upgrade"
    BODY = "body"
    BODY_TOO_LARGE = "body_too_large"
    HEADERS_TOO_LARGE = "headers_too_large"
    THROTTLED = "throttled"
    SHARE = "share"
    OVERLOADED = "overloaded"
    STORAGE = "storage"
    KEYS = "keys"
    SETTINGS = "settings"
    BACKENDS = "backends"
    TIMEOUT = "timeout"
    INTERNAL = "internal"


_KINDS = {
    408: ErrorKind.BODY,
    413: ErrorKind.BODY_TOO_LARGE,
    414: ErrorKind.HEADERS_TOO_LARGE,
    429: ErrorKind.THROTTLED,
    431: ErrorKind.HEADERS_TOO_LARGE,
    500: ErrorKind.INTERNAL,
    502: ErrorKind.BACKENDS,
    503: ErrorKind.BACKENDS,
    504: ErrorKind.TIMEOUT,
}


_WITH_WAIT = frozenset({429, 503})
MAX_TOLD_SECONDS = 60
# Not 401: clients fetch a new token upon it, and try again.
_HOPELESS = frozenset({400, 403, 404, 405, 413, 414, 415, 431})


class CallerError(MeterError):
    """The call is answered with this error. `code` is AOAI's `error.code`.

    `kind` follows from the class, or from the status where a class has several.
    `retry_after_seconds` is the wait after which a retry may succeed, where that is known.
    `words` are members of `error` in the words of the backend that failed last, `should_retry` is
    its advice.
    """

    status = 400
    code = "BadRequest"
    kind = ErrorKind.BAD_REQUEST
    retry_after_seconds: float | None = None
    words: Mapping[str, object] = MappingProxyType({})
    should_retry: str | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        kind: ErrorKind | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.status = status or type(self).status
        self.kind = kind or _KINDS.get(self.status, type(self).kind)
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds

    @property
    def told_wait_seconds(self) -> int | None:
        """The wait that callers are told: every 429 and 503 has one, in whole seconds from 1 to 60.

        Without one some clients retry at once, others never; a day's wait they would sleep through.
        """
        if self.status not in _WITH_WAIT:
            return None
        return min(MAX_TOLD_SECONDS, max(1, math.ceil(self.retry_after_seconds or 0)))

    @property
    def told_to_retry(self) -> str | None:
        """The advice to SDKs: a backend's, else not to repeat what no wait can help."""
        is_hopeless = self.status in _HOPELESS and self.kind is not ErrorKind.BODY
        return self.should_retry or ("false" if is_hopeless else None)


class Unauthenticated(CallerError):
    """No token, or an invalid one; `reason` is for the log, and empty where there is no token."""

    status = 401
    code = "401"
    kind = ErrorKind.TOKEN

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def challenge(self) -> str:
        """The `WWW-Authenticate`: an error code only where there was a token (RFC 6750 section 3.1)."""
        return 'Bearer error="invalid_token"' if self.reason else 'Bearer realm="aoai-meter"'


class Forbidden(CallerError):
    """A valid token without the right to call; `reason` is for the log."""

    status = 403
    code = "403"
    kind = ErrorKind.PERMISSION

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotServed(CallerError):
    """No such path, operation or deployment."""

    status = 404
    code = "404"
    kind = ErrorKind.NOT_FOUND


class BadRequest(CallerError):
    """The request cannot be read."""


class MethodNotAllowed(CallerError):
    """A known address does not accept the method; `allowed` has those that it accepts."""

    status = 405
    code = "MethodNotAllowed"
    kind = ErrorKind.METHOD

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(f"This address accepts {', '.join(allowed)}.")
        self.allowed = tuple(allowed)


class EncodingRefused(CallerError):
    """The body has a content encoding."""

    status = 415
    code = "UnsupportedMediaType"
    kind = ErrorKind.ENCODING


class UpgradeRefused(CallerError):
    """The caller asks for another protocol than HTTP."""

    status = 426
    code = "UpgradeRequired"
    kind = ErrorKind.UPGRADE


class TooLarge(CallerError):
    """The request is over a limit."""

    status = 413
    code = "RequestTooLarge"
    kind = ErrorKind.BODY


class Overloaded(CallerError):
    """No capacity now; `retry_after_seconds` is the earliest time at which a retry can succeed."""

    status = 429
    code = "429"

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float,
        status: int | None = None,
        kind: ErrorKind | None = None,
    ) -> None:
        kind = ErrorKind.OVERLOADED if status == 503 else kind
        super().__init__(
            message,
            status=status,
            code=str(status) if status else None,
            kind=kind,
            retry_after_seconds=retry_after_seconds,
        )


class UsageUnavailable(CallerError):
    """What a caller used cannot be read now; calls are still served and counted."""

    status = 503
    code = "ServiceUnavailable"
    retry_after_seconds = 5.0

    def __init__(self) -> None:
        super().__init__(
            "Your usage cannot be read now. Calls are still served and counted. Please retry "
            f"after {self.retry_after_seconds:.0f} seconds.",
            kind=ErrorKind.STORAGE,
        )


class CallerGone(MeterError):
    """The caller closed its connection."""


class AnswerCut(MeterError):
    """The connection must be broken off, so that the answer is not taken for a complete one."""


class UpstreamError(MeterError):
    """A backend gave no usable answer; the next one may."""


class UpstreamUnreachable(UpstreamError):
    """No connection to the backend."""


class UpstreamTimeout(UpstreamError):
    """The backend sent no byte in time."""


class UpstreamBroken(UpstreamError):
    """The backend's answer was cut before its end."""


class KeysUnavailable(MeterError):
    """The issuer's keys have never been loaded, so its tokens cannot be verified."""


class PublishFailed(MeterError):
    """Event Hubs did not acknowledge an event in time; it may still be stored."""


class HubUnavailable(MeterError):
    """Event Hubs did not say what it holds: no answer, or no right to ask."""


class StorageUnavailable(MeterError):
    """Table Storage did not answer, or refused; whether a write was applied is unknown.

    `status` and `code` are those of its refusal, such as 503 and ServerBusy.
    """

    def __init__(self, message: str = "", *, status: int | None = None, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class RowsRefused(StorageUnavailable):
    """Table Storage refused the rows for what they hold; nothing was applied, nor will a repeat be."""


class NotSignedIn(StorageUnavailable):
    """No identity gave a token, so storage was not asked."""


class AccessDenied(StorageUnavailable):
    """Table Storage refused the credentials, or their rights."""


class TableMissing(MeterError):
    """The table does not exist and may not be created by this write; nothing was applied."""


class LedgerDamaged(MeterError):
    """A cell is not what the app writes there, or cannot hold what is added to it; names the cell."""

    def __init__(self, detail: str, *, table: str, partition: str, row: str, column: str) -> None:
        super().__init__(f"{table}, partition {partition}, row {row}, column {column}: {detail}")
        self.table = table
        self.partition = partition
        self.row = row
        self.column = column


class MonitorUnavailable(MeterError):
    """Azure Monitor refused, did not answer, or has no usable numbers for the request."""


class PricesUnavailable(MeterError):
    """Azure's Retail Prices API did not answer, or its answer cannot be used."""


class LedgerMissing(MeterError):
    """The month has no ledger: it had no calls, or its retention has ended."""


class ExportUnavailable(MeterError):
    """The folder or container of an export cannot be read or written: full, forbidden, gone."""


class ExportHeld(ExportUnavailable):
    """Another process writes to the export now."""


class ExportRefused(MeterError):
    """What is asked for does not fit the export that is there already; nothing was changed."""


class AmbiguousPrice(MeterError):
    """Rows of one price file are equally good for some usage; `rows` names each of them."""

    def __init__(self, usage: str, rows: Sequence[str]) -> None:
        super().__init__(
            f"{' and '.join(rows)} are equally good prices of {usage}: make one more specific, or end it"
        )
        self.rows = tuple(rows)
