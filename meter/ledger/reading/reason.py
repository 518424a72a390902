"""The reasons why an event becomes a dead letter."""

from enum import StrEnum


class Reason(StrEnum):
    """Why an event was not counted."""

    NOT_JSON = "not-json"
    NOT_AN_EVENT = "not-an-event"
    UNKNOWN_TYPE = "unknown-type"
    INVALID_FIELD = "invalid-field"
    TOO_LATE = "too-late"
    IN_THE_FUTURE = "in-the-future"
    MONTH_CLOSED = "month-closed"
    CANNOT_BE_STORED = "cannot-be-stored"
    NO_CALL = "no-call"
    BELOW_ZERO = "below-zero"
