"""A circuit breaker for the hub, so that calls do not wait for a hub that is known to fail.

| state  | event                          | next state                                              |
|--------|--------------------------------|---------------------------------------------------------|
| closed | acknowledged                   | closed, failures = 0                                    |
| closed | `FAILURES` failures in a row   | open until now + pause                                  |
| open   | an event, during the pause     | open: the event is not sent                             |
| open   | an event, after the pause      | open: this event is the probe, for `PROBE_SECONDS` at most |
| open   | any event acknowledged         | closed                                                  |
| open   | the probe failed               | open until now + twice the pause                        |
| open   | an earlier event failed        | open: the same failure, seen again                      |
"""

import logging
from enum import Enum, auto

from meter.ports import Clock, Dice

FAILURES = 3
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
PROBE_SECONDS = 30.0

log = logging.getLogger(__name__)


def backoff(failures: int, first: float, longest: float, dice: Dice) -> float:
    """The pause after so many earlier failures: doubled for each, up to `longest`, in seconds.

    Half of it is random, so that instances do not retry at the same moment.
    """
    return min(first * 2.0 ** min(failures, 16), longest) * (1 + dice.random()) / 2


class Admission(Enum):
    """How an event is treated."""

    TRY = auto()
    PROBE = auto()
    SKIP = auto()


class HubCircuit:
    """The circuit between one instance and the hub. One event loop owns it."""

    def __init__(self, clock: Clock, dice: Dice) -> None:
        self._clock = clock
        self._dice = dice
        self._failures = 0
        self._pauses = 0
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the hub is known to fail."""
        return self._pauses > 0

    def admit(self) -> Admission:
        """Whether the next event is sent, is the probe, or is skipped."""
        if not self._pauses:
            return Admission.TRY
        now = self._clock.monotonic()
        if now < self._open_until:
            return Admission.SKIP
        self._open_until = now + PROBE_SECONDS
        return Admission.PROBE

    def acknowledged(self) -> None:
        """The hub acknowledged an event."""
        if self._pauses:
            log.warning("hub_circuit_closed")
        self._failures = self._pauses = 0

    def failed(self, reason: str, *, is_probe: bool = False) -> None:
        """The hub did not acknowledge an event in time."""
        if self.is_open and not is_probe:
            return
        self._failures += 1
        if self._failures < FAILURES:
            return
        pause = backoff(self._pauses, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, self._dice)
        self._pauses += 1
        self._open_until = self._clock.monotonic() + pause
        log.warning("hub_circuit_opened seconds=%.1f reason=%s", pause, reason)
