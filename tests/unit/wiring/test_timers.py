"""The nightly export beside calls and events: apart from them, logged, and ended with the app."""

import asyncio
import logging
import threading

import pytest

from meter.errors import ExportHeld, ExportUnavailable, InvalidInput
from meter.reports.export.export import Outcome
from meter.reports.export.layout import Encoding
from meter.reports.export.manifest import Manifest
from meter.wiring.timers import NightlyExport

SETTINGS = {"METER_EXPORT_CONTAINER": "exports"}
DONE = Outcome(
    manifest=Manifest(
        as_of="2026-11-24T02:15:00.000000Z",
        complete_to="2026-11-23",
        encoding=Encoding.CSV,
        currency=None,
        sources=[],
        caught_up=[],
        failed=[],
        files=[],
    ),
    written=(),
    unchanged=24,
)


async def done(_environment: object) -> Outcome:
    return DONE


async def test_an_export_runs_apart_from_this_loop() -> None:
    """In a thread, and with a loop of its own, so that calls go on while it computes."""
    seen: list[object] = []

    async def look(_environment: object) -> Outcome:
        seen.extend((threading.current_thread(), asyncio.get_running_loop()))
        return DONE

    await NightlyExport(look).run(SETTINGS)

    assert seen[0] is not threading.current_thread()
    assert seen[1] is not asyncio.get_running_loop()


async def test_without_a_container_nothing_runs() -> None:
    """The timer is there in every deployment."""

    async def run(_environment: object) -> Outcome:
        raise AssertionError

    await NightlyExport(run).run({})


async def test_what_became_of_a_run_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Its files, and the last day that is complete."""
    with caplog.at_level(logging.INFO):
        await NightlyExport(done).run(SETTINGS)

    assert caplog.messages[0].startswith(
        "export_finished files=0 unchanged=24 months_failed=0 complete_to=2026-11-23 seconds="
    )


@pytest.mark.parametrize(
    "failure",
    [ExportUnavailable("exports: no space"), InvalidInput(["METER_PRICES: b.csv: cannot be read"])],
)
async def test_a_failure_is_logged_and_fails_the_invocation(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """So that Azure counts it as a failed execution, too."""

    async def fail(_environment: object) -> Outcome:
        raise failure

    with pytest.raises(type(failure)):
        await NightlyExport(fail).run(SETTINGS)
    assert caplog.messages == [f"export_failed reason={failure}"]


async def test_a_run_beside_another_one_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    """Two instances, or a person at the same time: one of them does it."""

    async def held(_environment: object) -> Outcome:
        raise ExportHeld("another export is writing to exports")

    await NightlyExport(held).run(SETTINGS)

    assert caplog.messages == ["export_skipped reason=another export is writing to exports"]


async def test_a_setting_that_is_wrong_fails_the_run() -> None:
    """It is not taken for one that is not set."""
    with pytest.raises(InvalidInput, match="METER_EXPORT_CONTAINER"):
        await NightlyExport().run({"METER_EXPORT_CONTAINER": "No"})


async def test_closing_the_app_breaks_off_a_run() -> None:
    """The host would kill it otherwise; the thread is gone afterwards."""
    begun, ended = threading.Event(), threading.Event()

    async def wait(_environment: object) -> Outcome:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return DONE

    exports = NightlyExport(wait)
    run = asyncio.create_task(exports.run(SETTINGS))
    await asyncio.to_thread(begun.wait, 30)
    await exports.close()

    assert ended.is_set()
    with pytest.raises(asyncio.CancelledError):
        await run
