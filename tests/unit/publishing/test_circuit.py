"""The circuit to the hub, row by row of its table."""

import logging

import pytest

from meter.publishing.circuit import PROBE_SECONDS, Admission, HubCircuit
from tests.fakes.gateway import FakeClock, FixedDice


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def circuit_on(clock: FakeClock, *, dice: float = 1.0) -> HubCircuit:
    return HubCircuit(clock, FixedDice(dice))


def opened(clock: FakeClock, *, dice: float = 1.0) -> HubCircuit:
    circuit = circuit_on(clock, dice=dice)
    for _ in range(3):
        circuit.failed("busy")
    return circuit


def test_two_failures_and_an_acknowledgement_leave_it_closed(clock: FakeClock) -> None:
    """Single failures are no outage."""
    circuit = circuit_on(clock)
    for _ in range(5):
        circuit.failed("busy")
        circuit.failed("busy")
        circuit.acknowledged()

    assert circuit.admit() is Admission.TRY


def test_three_failures_in_a_row_open_it_for_half_a_second(clock: FakeClock) -> None:
    """Then no event is tried, and afterwards one."""
    circuit = opened(clock)
    clock.advance(0.49)
    before = circuit.admit()
    clock.advance(0.02)

    assert before is Admission.SKIP
    assert [circuit.admit(), circuit.admit()] == [Admission.PROBE, Admission.SKIP]


def test_an_acknowledged_probe_closes_it(clock: FakeClock) -> None:
    """All events are tried again."""
    circuit = opened(clock)
    clock.advance(1)
    circuit.admit()
    circuit.acknowledged()

    assert [circuit.admit(), circuit.admit()] == [Admission.TRY, Admission.TRY]


def test_each_failed_probe_doubles_the_pause_up_to_ten_seconds(clock: FakeClock) -> None:
    """A long outage is probed rarely, and its end is still noticed soon."""
    circuit = opened(clock)
    pauses = []
    for _ in range(8):
        begun = clock.monotonic()
        while circuit.admit() is Admission.SKIP:
            clock.advance(0.25)
        pauses.append(clock.monotonic() - begun)
        circuit.failed("busy", is_probe=True)

    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]


def test_the_dice_shorten_a_pause_by_up_to_a_half(clock: FakeClock) -> None:
    """So that instances do not probe at the same moment."""
    circuit = opened(clock, dice=0.0)
    clock.advance(0.25)

    assert circuit.admit() is Admission.PROBE


def test_failures_of_older_events_do_not_prolong_the_pause(clock: FakeClock) -> None:
    """Many were under way when it opened: theirs is the same failure."""
    circuit = opened(clock)
    for _ in range(100):
        circuit.failed("no answer in time")
    clock.advance(0.5)

    assert circuit.admit() is Admission.PROBE


def test_an_acknowledgement_of_an_older_event_closes_it(clock: FakeClock) -> None:
    """Any acknowledgement shows that the hub takes events."""
    circuit = opened(clock)
    circuit.acknowledged()

    assert circuit.admit() is Admission.TRY


def test_a_probe_that_never_reports_makes_way_for_another(clock: FakeClock) -> None:
    """Nothing keeps it open for ever."""
    circuit = opened(clock)
    clock.advance(1)
    first = circuit.admit()
    clock.advance(PROBE_SECONDS)

    assert (first, circuit.admit()) == (Admission.PROBE, Admission.PROBE)


def test_opening_and_closing_are_one_log_line_each(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """With the reason and the pause, for the on-call engineer."""
    caplog.set_level(logging.INFO)
    circuit = opened(clock)
    circuit.acknowledged()
    circuit.acknowledged()

    assert caplog.messages == [
        "hub_circuit_opened seconds=0.5 reason=busy",
        "hub_circuit_closed",
    ]
