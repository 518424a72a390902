"""Reads METER_LIMITS: a document with limits, which win over the settings of the same names."""

from meter.config.documents import UNREAD, JsonSetting
from meter.config.reader import Reader

SETTING = "METER_LIMITS"
# Those that the parts of a running front door can change.
CHANGEABLE = frozenset(
    {
        "METER_ATTEMPTS_TIMEOUT_SECONDS",
        "METER_BODY_BUDGET_BYTES",
        "METER_DRAIN_SECONDS",
        "METER_FIRST_BYTE_TIMEOUT_SECONDS",
        "METER_FIRST_KEEPALIVE_SECONDS",
        "METER_KEEPALIVE_SECONDS",
        "METER_MAX_BUFFERED_ANSWER_BYTES",
        "METER_MAX_CONCURRENT_CALLS",
        "METER_MAX_DRAINS",
        "METER_SUBJECT_SHARE_PERCENT",
        "METER_TOTAL_TIMEOUT_SECONDS",
        "METER_WRITE_TIMEOUT_SECONDS",
    }
)


def with_limits(reader: Reader) -> Reader:
    """A reader of the same settings, with the document's limits in place of theirs. Problems are reported."""
    document = JsonSetting(reader, SETTING)
    if not document.is_set or (found := document.read()) is UNREAD:
        return reader
    place = document.place.strip()
    if not isinstance(found, dict):
        document.problem('must be an object: {"METER_MAX_CONCURRENT_CALLS": 500}', place)
        return reader
    if unknown := sorted(found.keys() - CHANGEABLE):
        document.problem(
            f"accepts {', '.join(sorted(CHANGEABLE))}; got {', '.join(unknown)[:200]}", place
        )
    texts = {name: value for name, value in found.items() if name in CHANGEABLE}
    if wrong := [name for name, value in texts.items() if not _is_number(value)]:
        document.problem(f"needs a number for {', '.join(sorted(wrong))}", place)
    values = {name: str(value) for name, value in texts.items() if _is_number(value)}
    return reader.with_values(values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
