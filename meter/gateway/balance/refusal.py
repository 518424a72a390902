"""The caller's answer when no backend is left: the gateway's status, a backend's own words."""

from collections.abc import Mapping, Sequence

from meter.errors import CallerError, Overloaded
from meter.gateway.answer.stated_error import StatedError
from meter.gateway.balance.verdict import Failover, Fault, telling
from meter.gateway.balance.waits import with_wait


def refusal_after(failovers: Sequence[Failover], throttled: Overloaded | None) -> CallerError:
    """What the caller gets: `throttled`, if waiting helps, else what the last failover was."""
    refusal = throttled or _refusal_of(failovers[-1])
    told = telling(failovers, is_throttled=throttled is not None)
    if told is not None:
        refusal.should_retry = told.should_retry
        refusal.words = _words(told.error, refusal) if told.error else {}
    return refusal


def _refusal_of(last: Failover) -> CallerError:
    if last.fault is Fault.TIMEOUT:
        return CallerError("No backend answered in time.", status=504, code="GatewayTimeout")
    if last.status in {503, 504}:
        return CallerError(
            "No backend can serve this call now.",
            status=last.status,
            code="ServiceUnavailable" if last.status == 503 else "GatewayTimeout",
            retry_after_seconds=last.wait_seconds,
        )
    return CallerError("No backend could serve this call.", status=502, code="BadGateway")


def _words(error: StatedError, refusal: CallerError) -> Mapping[str, object]:
    """The members of the answer's `error`; a status or a wait that differs from ours is not told."""
    wait, message = refusal.told_wait_seconds, error.message
    if wait is not None and message is not None:
        message = with_wait(message, wait)
    is_other_status = (error.code or "").isdecimal() and error.code != str(refusal.status)
    words: dict[str, object] = {
        "message": message,
        "code": None if is_other_status else error.code,
        "type": error.kind,
        "param": error.param,
        "innererror": error.inner,
    }
    return {name: word for name, word in words.items() if word is not None}
