"""Reads the limits on calls: how many, how large, how long."""

from enum import StrEnum

from msgspec import Struct

from meter.config.host import function_timeout_seconds
from meter.config.memory import visible_memory_bytes
from meter.config.reader import Reader
from meter.gateway.answer.relay import DrainLimits, RelayTimes
from meter.gateway.balance.exchange import ForwardLimits
from meter.gateway.http import RequestLimits
from meter.gateway.limits.admission import AdmissionLimits
from meter.gateway.limits.intake import BodyLimits

# The Functions host refuses larger bodies with a bare 500, chunk framing included: 1 MiB below its limit.
MOST_BODY_BYTES = 104_857_600 - 1_048_576


class OnDisconnect(StrEnum):
    """What happens to a stream whose caller leaves."""

    DRAIN = "drain"
    CANCEL = "cancel"


class Limits(Struct, frozen=True, kw_only=True):
    """The limits on calls, as values of the parts that apply them."""

    admission: AdmissionLimits
    first_keepalive_seconds: float
    forwarding: ForwardLimits
    times: RelayTimes
    drains: DrainLimits


def read_limits(reader: Reader, bodies: BodyLimits) -> Limits:
    """The limits on calls. Problems are reported."""
    number, admission = reader.number, _admission_limits(reader, bodies)
    return Limits(
        admission=admission,
        first_keepalive_seconds=number("METER_FIRST_KEEPALIVE_SECONDS", 80, least=0.1, most=220),
        forwarding=_forward_limits(reader),
        times=RelayTimes(
            write_seconds=number("METER_WRITE_TIMEOUT_SECONDS", 60, least=0.1, most=1800),
            keepalive_seconds=number("METER_KEEPALIVE_SECONDS", 20, least=0.1, most=220),
            total_seconds=_total_seconds(reader),
        ),
        drains=_drain_limits(reader, admission.subject_share_percent),
    )


def read_request_limits(reader: Reader, bodies: BodyLimits) -> RequestLimits:
    """The bounds on a request. Problems are reported."""
    whole = reader.whole
    return RequestLimits(
        max_headers=whole("METER_MAX_HEADERS", 200, least=20, most=10_000),
        max_header_bytes=whole("METER_MAX_HEADER_BYTES", 65_536, least=1_024, most=1_048_576),
        max_body_bytes=max(bodies.max_form_bytes, bodies.max_json_bytes),
        read_timeout_seconds=reader.number("METER_READ_TIMEOUT_SECONDS", 60, least=0.1, most=1800),
        max_refused_uploads=whole("METER_MAX_REFUSED_UPLOADS", 64, least=0, most=10_000),
    )


def _total_seconds(reader: Reader) -> float:
    name = "METER_TOTAL_TIMEOUT_SECONDS"
    seconds = reader.number(name, 1700, least=1, most=86_400)
    most = function_timeout_seconds(reader)
    if seconds > most:
        reader.problem(
            name,
            f"must be at most the host's functionTimeout, {most:g} seconds (host.json), which ends "
            f"every call of the instance; got {seconds:g}",
        )
    return seconds


def _admission_limits(reader: Reader, bodies: BodyLimits) -> AdmissionLimits:
    whole = reader.whole
    return AdmissionLimits(
        max_concurrent_calls=whole("METER_MAX_CONCURRENT_CALLS", 1_000, least=1, most=100_000),
        subject_share_percent=whole("METER_SUBJECT_SHARE_PERCENT", 50, least=1, most=100),
        body_budget_bytes=whole(
            "METER_BODY_BUDGET_BYTES",
            visible_memory_bytes() // 4,
            least=1_024,
            most=1_099_511_627_776,
        ),
        bodies=bodies,
    )


def read_body_limits(reader: Reader) -> BodyLimits:
    """The bounds on a body. Problems are reported."""
    whole = reader.whole
    return BodyLimits(
        max_form_bytes=whole("METER_MAX_BODY_BYTES", 33_554_432, least=1_024, most=MOST_BODY_BYTES),
        max_json_bytes=whole(
            "METER_MAX_JSON_BODY_BYTES", 16_777_216, least=1_024, most=MOST_BODY_BYTES
        ),
    )


def _forward_limits(reader: Reader) -> ForwardLimits:
    number, whole = reader.number, reader.whole
    return ForwardLimits(
        first_byte_timeout_seconds=number(
            "METER_FIRST_BYTE_TIMEOUT_SECONDS", 200, least=0.1, most=1800
        ),
        attempts_timeout_seconds=number(
            "METER_ATTEMPTS_TIMEOUT_SECONDS", 220, least=0.1, most=1800
        ),
        max_buffered_bytes=whole(
            "METER_MAX_BUFFERED_ANSWER_BYTES", 33_554_432, least=65_536, most=1_073_741_824
        ),
    )


def _drain_limits(reader: Reader, share_percent: int) -> DrainLimits:
    most = reader.whole("METER_MAX_DRAINS", 100, least=0, most=10_000)
    seconds = reader.number("METER_DRAIN_SECONDS", 300, least=1, most=1800)
    drains = reader.choice("METER_ON_DISCONNECT", OnDisconnect.DRAIN) is OnDisconnect.DRAIN
    return DrainLimits(most=most if drains else 0, seconds=seconds, share_percent=share_percent)
