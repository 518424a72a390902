"""The function app's entry points: front door, aggregator and four timers.

The host imports this module on every cold start and drops the whole app if that fails, so nothing
here connects or reads settings that can be wrong. Annotations must be real at run time.
"""

# ruff: noqa: E402
from meter.adapters.functions.memory import collect_rarely

collect_rarely()  # first: what the imports make is no garbage

from typing import List  # noqa: UP035  # `list[...]` fails the runtime's indexing

from starlette.requests import Request
from starlette.responses import Response

from meter.adapters.functions.console import log_to_console
from meter.adapters.functions.extension import configure_worker
from meter.adapters.functions.hub_times import replace_time_reading
from meter.adapters.libraries.functions import func
from meter.bootstrap import App

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
_app = App()
log_to_console(_app.log_level())
configure_worker(
    close=_app.close,
    answers_seconds=_app.answers_seconds(),
    invocation_wait_seconds=_app.invocation_wait_seconds(),
    limits=_app.request_limits(),
    start=_app.warm,
)
replace_time_reading()


@app.function_name("front_door")
@app.route(route="{*path}")  # all methods: the gateway refuses others itself
async def front_door(req: Request) -> Response:
    """Verify, balance, relay and meter an HTTP request."""
    return await _app.answer(req.scope, req.receive)


@app.function_name("aggregator")
@app.event_hub_message_trigger(
    arg_name="events",
    event_hub_name=_app.event_hub_name(),
    connection="EventHubConnection",
    consumer_group="aggregator",
    cardinality=func.Cardinality.MANY,
    data_type=func.DataType.BINARY,
)
# The host checkpoints a batch even when the function fails: only a retry without end keeps it.
@app.retry(
    strategy="exponential_backoff",
    max_retry_count="-1",
    minimum_interval="00:00:01",
    maximum_interval="00:01:00",
)
async def aggregator(events: List[func.EventHubEvent]) -> None:  # noqa: UP006  # see the import
    """Count a batch of usage events, each exactly once in effect."""
    # What only the aggregator needs is imported with its first batch, so that the front door starts sooner.
    from meter.adapters.functions.triggers import hub_messages

    await _app.aggregator().handle(hub_messages(events))


@app.function_name("outbox")
@app.timer_trigger(arg_name="timer", schedule="0 * * * * *", run_on_startup=False)
async def outbox(timer: func.TimerRequest) -> None:  # noqa: ARG001  # the binding's name
    """Every minute: publish events that Event Hubs did not acknowledge before."""
    await _app.republish()


@app.function_name("sweep")
@app.timer_trigger(arg_name="timer", schedule="0 */2 * * * *", run_on_startup=False)
async def sweep(timer: func.TimerRequest) -> None:  # noqa: ARG001  # the binding's name
    """Every two minutes: copy sums to the views where a crash prevented it."""
    await _app.sweep()


# A separate function, so it can be disabled on its own where ledgers must be kept.
@app.function_name("retention")
@app.timer_trigger(arg_name="timer", schedule="0 30 3 * * *", run_on_startup=False)
async def retention(timer: func.TimerRequest) -> None:  # noqa: ARG001  # the binding's name
    """Every day: drop ledgers that are past their retention."""
    await _app.drop_old_ledgers()


# Apart too: it can be disabled, and writes where METER_EXPORT_CONTAINER says, if it says so.
@app.function_name("export")
@app.timer_trigger(arg_name="timer", schedule="0 15 2 * * *", run_on_startup=False)
async def export(timer: func.TimerRequest) -> None:  # noqa: ARG001  # the binding's name
    """Every night (UTC): write the files of the days and months that may have changed."""
    await _app.export()
