"""Makes an adjustment of a counted call: finds the call and checks the change."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from meter.adjustment import MAX_REASON_CHARS, Adjustment, CountedAdjustment
from meter.ledger.keys import call_row_key, escape, ledger_table
from meter.ledger.markers import read_marker
from meter.ports import RowStore
from meter.usage import NO_USAGE, CountedCall, TokenUsage, is_writable
from meter.window import Period, window_of

LONGEST_CALL = timedelta(days=1)  # a call that begins in one month may end in the next
SOURCE = "/aoai-meter/adjust"


async def find_call(store: RowStore, subject: str, event_id: UUID) -> CountedCall | None:
    """The call as it was counted; None if it was not. Raises StorageUnavailable.

    The event id holds the call's start (UUIDv7), and with it the month.
    """
    begun = moment_of(event_id)
    months = {window_of(moment, Period.MONTH) for moment in (begun, begun + LONGEST_CALL)}
    for month in sorted(months):
        key = call_row_key(event_id)
        found = await store.read(ledger_table(month), escape(subject), [key])
        if key in found:
            marker = read_marker(found[key])
            return None if isinstance(marker, CountedAdjustment) else marker
    return None


def moment_of(event_id: UUID) -> datetime:
    """When the id was made (RFC 9562 section 5.7). Raises ValueError if it is not a UUIDv7."""
    if event_id.version != 7:
        raise ValueError(f"an event id is a UUIDv7, got {event_id}")
    return datetime.fromtimestamp((event_id.int >> 80) / 1000, tz=UTC)


def make_adjustment(
    call: CountedCall,
    *,
    adjustment_id: UUID,
    subject: str,
    refers_to: UUID,
    reason: str,
    usage: TokenUsage,
    time: datetime,
) -> Adjustment:
    """The adjustment of that call. Raises ValueError that says what is accepted."""
    reason = reason.strip()
    if not 0 < len(reason) <= MAX_REASON_CHARS or not is_writable(reason):
        raise ValueError(f"the reason must be a text of 1 to {MAX_REASON_CHARS} characters")
    if usage == NO_USAGE:
        raise ValueError("at least one count must be other than 0")
    counted = call.usage.as_document()
    for name, change in usage.as_document().items():
        if counted[name] + change < 0:
            raise ValueError(
                f"{name} of the call is {counted[name]}: {change} would make it negative"
            )
    return Adjustment(
        id=adjustment_id,
        source=SOURCE,
        time=time,
        subject=subject,
        refers_to=refers_to,
        reason=reason,
        deployment=call.deployment,
        model=call.model,
        tier=call.tier,
        usage=usage,
    )
