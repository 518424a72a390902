"""The call log: a line of the host's log for each call as it is counted.

The lines are records of the running invocation, which the host keeps with their level and function,
and samples nowhere (host.json). They do not go to the console like the app's other lines, and no
exporter of ours takes log records.

A call is logged after it is in the ledger, in the delivery that counted it. So a repeat has no line,
and a process that dies in between leaves a counted call without one: the ledger is what counts.
"""

import logging
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import quote

from meter.ports import Clock
from meter.usage import UsageEvent

# Apart from the app's own logger, whose records go to the console alone.
LOGGER = "aoai_meter.calls"
ABSENT = "-"
# A value with any other character is percent-encoded: it can neither end nor make a field.
_PLAIN = "~:/@+"
_MILLISECOND = timedelta(milliseconds=1)

log = logging.getLogger(LOGGER)


class CallLog:
    """Observes an aggregator, and logs the calls that it counts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        log.setLevel(logging.INFO)

    def counted(self, calls: Sequence[UsageEvent], repeats: int) -> None:  # noqa: ARG002  # the port's
        """Log each call."""
        now = self._clock.now()
        for call in calls:
            _log(call, max(0, (now - call.time) // _MILLISECOND))

    def dead_lettered(self, count: int) -> None:
        """Nothing: `events_dead_lettered` tells of them."""


def _log(call: UsageEvent, lag_ms: int) -> None:
    log.info(
        "call_counted event_id=%s subject=%s client_app=%s deployment=%s model=%s backend=%s region=%s "
        "tier=%s context=%s operation=%s outcome=%s status=%d streaming=%s source=%s prompt_tokens=%d "
        "completion_tokens=%d total_tokens=%d cached_tokens=%d cache_write_tokens=%d "
        "reasoning_tokens=%d audio_tokens=%d audio_prompt_tokens=%d audio_cached_tokens=%d "
        "audio_completion_tokens=%d image_tokens=%d image_prompt_tokens=%d image_cached_tokens=%d "
        "image_completion_tokens=%d seconds=%d images=%d characters=%d web_search_calls=%d "
        "file_search_calls=%d code_interpreter_calls=%d attempts=%d duration_ms=%d "
        "time_to_first_byte_ms=%d lag_ms=%d",
        call.id,
        *map(_text, (call.subject, call.client_app, call.deployment, call.model, call.backend)),
        _text(call.region),
        call.tier,
        call.context,
        _text(call.operation),
        call.outcome,
        call.status,
        "true" if call.streaming else "false",
        call.usage_source,
        *call.usage,
        len(call.attempts),
        call.duration_ms,
        call.time_to_first_byte_ms or 0,
        lag_ms,
    )


def _text(value: str | None) -> str:
    return quote(value, safe=_PLAIN) if value else ABSENT
