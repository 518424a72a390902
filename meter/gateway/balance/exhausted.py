"""Logs calls for which no backend was left: all cool down, or all failed.

A line per deployment and minute, with the calls since the one before, since callers that are refused
come again, all at once.
"""

import logging

from msgspec import Struct, field

from meter.errors import CallerError
from meter.ports import Clock

SECONDS_BETWEEN_LINES = 60.0

log = logging.getLogger(__name__)


class Exhausted(Struct):
    """Counts refused calls by deployment. One event loop owns it."""

    clock: Clock
    _calls: dict[str, int] = field(default_factory=dict)
    _logged_at: dict[str, float] = field(default_factory=dict)

    def refused(self, deployment: str, refusal: CallerError) -> None:
        """A call of the deployment got this answer; the first one is logged at once."""
        self._calls[deployment] = self._calls.get(deployment, 0) + 1
        now, logged_at = self.clock.monotonic(), self._logged_at.get(deployment)
        if logged_at is not None and now - logged_at < SECONDS_BETWEEN_LINES:
            return
        self._logged_at[deployment] = now
        calls = self._calls.pop(deployment)
        log.warning(
            "backends_exhausted deployment=%s status=%d calls=%d", deployment, refusal.status, calls
        )
