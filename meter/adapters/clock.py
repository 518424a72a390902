"""The real clock and the real dice."""

import random
import time
from datetime import UTC, datetime


class SystemClock:
    """`meter.ports.Clock` on the operating system's clocks."""

    def now(self) -> datetime:
        """The current moment, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()


def system_dice() -> random.Random:
    """Chance for balancing and event ids, seeded by the operating system in each process."""
    return random.Random()  # noqa: S311  # ids must be unique, not secret
