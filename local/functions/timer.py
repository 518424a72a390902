"""Timer triggers: run at a fixed interval, one run at a time.

The real host runs a function at the times of its NCRONTAB schedule; here it runs as often, counted
from the start. The outbox timer follows METER_OUTBOX_INTERVAL_SECONDS, which keeps tests short.
"""

import asyncio
import logging
import os

from local.functions.messages import TypedData, json_value
from local.functions.worker import Function, Worker

log = logging.getLogger(__name__)


def interval_seconds(function: Function) -> float:
    """The interval between two runs, for the forms of schedule that the app uses."""
    own = os.environ.get("METER_OUTBOX_INTERVAL_SECONDS")
    if function.name == "outbox" and own:
        return float(own)
    _, minute, hour, *_ = function.trigger["schedule"].split()
    if hour != "*":
        return 86_400.0
    return 60.0 * float(minute.removeprefix("*/")) if minute.startswith("*/") else 60.0


async def run_timer(worker: Worker, function: Function, interval_seconds: float) -> None:
    """Run the function at this interval until cancelled."""
    while True:
        await asyncio.sleep(interval_seconds)
        invoked = await worker.invoke(function, timer_value())
        if invoked.error is not None:
            log.error("%s failed: %s", function.name, invoked.error)


def timer_value() -> TypedData:
    """The argument of a timer function."""
    schedule = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None, "IsPastDue": False}
    return json_value(schedule)
