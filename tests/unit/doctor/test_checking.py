"""Running checks: beside each other, in bounded time, and none hides another."""

import asyncio
from collections.abc import Sequence

from meter.doctor.checking import Check, diagnose
from meter.doctor.finding import EXIT_CODES, Area, Finding, Status


def finding(area: Area, status: Status = Status.OK, name: str = "x") -> Finding:
    return Finding(area=area, name=name, status=status, found="found")


def check(area: Area, status: Status = Status.OK, name: str = "x") -> Check:
    async def run() -> Sequence[Finding]:
        return [finding(area, status, name)]

    return Check(area=area, name=name, run=run)


def failing(area: Area, error: Exception) -> Check:
    async def run() -> Sequence[Finding]:
        raise error

    return Check(area=area, name="broken", run=run)


def hanging(area: Area) -> Check:
    async def run() -> Sequence[Finding]:
        await asyncio.Event().wait()
        return []

    return Check(area=area, name="hangs", run=run)


async def test_a_check_that_raises_hides_no_other() -> None:
    """It is a finding of its class; its text, which may hold a key, is not shown."""
    checks = [
        failing(Area.BACKENDS, ValueError("key hunter2")),
        check(Area.HUB),
        check(Area.TABLES),
    ]
    found = await diagnose(checks)

    assert [(each.area, each.status) for each in found.findings] == [
        (Area.BACKENDS, Status.FAIL),
        (Area.HUB, Status.OK),
        (Area.TABLES, Status.OK),
    ]
    assert found.findings[0].found == "failed unexpectedly: ValueError"


async def test_a_check_that_hangs_hides_no_other() -> None:
    """It is ended, and said to have no result."""
    found = await diagnose([hanging(Area.HUB), check(Area.BLOBS)], check_seconds=0.01)

    assert [(each.area, each.found) for each in found.findings] == [
        (Area.HUB, "no result within 0.01 s"),
        (Area.BLOBS, "found"),
    ]


async def test_all_checks_together_are_bounded() -> None:
    """However many hang; what they showed is still concluded."""
    hangs = [hanging(Area.BACKENDS) for _ in range(40)]
    found = await diagnose(hangs, conclude=lambda: [finding(Area.CLOCK)], all_seconds=0.05)

    assert [each.found for each in found.findings[:-1]] == ["no result within 0.05 s"] * 40
    assert found.findings[-1].area is Area.CLOCK


async def test_checks_run_beside_each_other() -> None:
    """Ten that need each other to begin all end."""
    begun = asyncio.Barrier(10)

    async def run() -> Sequence[Finding]:
        await begun.wait()
        return []

    found = await diagnose([Check(area=Area.HUB, name="x", run=run) for _ in range(10)])

    assert found.findings == []


async def test_a_conclusion_sees_what_all_checks_did() -> None:
    """It is drawn when they have ended."""
    order: list[str] = []

    def noting(name: str) -> Check:
        async def run() -> Sequence[Finding]:
            await asyncio.sleep(0)
            order.append(name)
            return []

        return Check(area=Area.CLOCK, name=name, run=run)

    def conclude() -> Sequence[Finding]:
        order.append("end")
        return []

    await diagnose([noting("first"), noting("second")], conclude=conclude)

    assert order == ["first", "second", "end"]


async def test_findings_are_in_the_order_in_which_faults_are_repaired() -> None:
    """By class, then as they were found."""
    found = await diagnose([check(Area.VERSIONS), check(Area.SETTINGS), check(Area.HUB)])

    assert [each.area for each in found.findings] == [Area.SETTINGS, Area.HUB, Area.VERSIONS]


async def test_the_exit_code_is_that_of_the_first_class_that_failed() -> None:
    """A warning fails nothing."""
    failed = [check(Area.BLOBS, Status.FAIL), check(Area.HUB, Status.FAIL)]
    warned = [check(Area.SETTINGS, Status.WARN), check(Area.HUB)]

    assert ((await diagnose(failed)).exit_code, (await diagnose(warned)).exit_code) == (14, 0)
    assert (await diagnose(failed)).failed == [Area.HUB, Area.BLOBS]
    assert ((await diagnose(failed)).status, (await diagnose(warned)).status) == ("fail", "warn")


def test_every_class_has_an_exit_code_of_its_own() -> None:
    """Apart from those of all commands and those of shells."""
    assert EXIT_CODES == {
        Area.SETTINGS: 10,
        Area.IDENTITY: 11,
        Area.ISSUERS: 12,
        Area.BACKENDS: 13,
        Area.HUB: 14,
        Area.TABLES: 15,
        Area.BLOBS: 16,
        Area.CLOCK: 17,
        Area.VERSIONS: 18,
    }
