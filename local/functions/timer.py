"""Timer triggers: run every so many seconds, one run at a time.

The real host reads the function's NCRONTAB schedule; here the outbox timer follows
METER_OUTBOX_INTERVAL_SECONDS, so that tests need not wait for the next full minute.
"""

import asyncio
import logging

from local.functions.messages import TypedData, json_value
from local.functions.worker import Function, Worker

log = logging.getLogger(__name__)


async def run_timer(worker: Worker, function: Function, interval_seconds: float) -> None:
    """Run the function at every interval, until cancelled."""
    while True:
        await asyncio.sleep(interval_seconds)
        invoked = await worker.invoke(function, timer_value())
        if invoked.error is not None:
            log.error("%s failed: %s", function.name, invoked.error)


def timer_value() -> TypedData:
    """What a timer function gets."""
    schedule = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None, "IsPastDue": False}
    return json_value(schedule)
