"""The real clock and the real dice."""

import random
import time
from datetime import UTC, datetime
from uuid import UUID

from meter.usage import new_event_id


class SystemClock:
    """`meter.ports.Clock` on the operating system's clocks.

    `monotonic` is the system's own function: a call asks for it a dozen times.
    """

    monotonic = staticmethod(time.monotonic)

    def now(self) -> datetime:
        """The current moment, aware, in UTC."""
        return datetime.now(UTC)


def new_call_id() -> UUID:
    """The id of a call that does not reach the front door, which makes its own."""
    return new_event_id(SystemClock().now(), system_dice().randbytes(10))


def system_dice() -> random.Random:
    """Chance for balancing and event ids, seeded by the operating system in each process."""
    return random.Random()  # noqa: S311  # ids must be unique, not secret
