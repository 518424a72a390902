"""Node's unmodified SDK with the endpoint: sending, reading, resuming, and every refusal by its code."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meter.adapters.partition_key import choose_partition
from tests.local.eventhubs.test_harness import Served, serve

_SCRIPT = Path(__file__).with_name("node_sdk.mjs")
_SCRIPT_SECONDS = 60

type Observed = dict[str, Any]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """What each scenario of the script saw; one that ended with an error has no entry."""
    with serve(tmp_path_factory.mktemp("data")) as served:
        yield _play(served)


def _play(served: Served) -> Observed:
    strings = (served.connection_string(), served.connection_string("another key"))
    command = ["node", str(_SCRIPT), *strings]
    run = subprocess.run(command, capture_output=True, text=True, timeout=_SCRIPT_SECONDS)
    assert run.returncode == 0, run.stderr
    outcomes = json.loads(run.stdout)
    assert {name: o["error"] for name, o in outcomes.items() if "error" in o} == {}
    return {name: outcome["observed"] for name, outcome in outcomes.items()}


def test_properties_describe_the_hub_and_its_partitions(observed: Observed) -> None:
    """Names, and where a partition ends before and after two events."""
    properties = observed["properties"]

    assert properties["partitionIds"] == ["0", "1", "2", "3"]
    assert properties["before"]["isEmpty"]
    assert properties["before"]["lastEnqueuedSequenceNumber"] == -1
    assert not properties["after"]["isEmpty"]
    assert properties["after"]["lastEnqueuedSequenceNumber"] == 1


def test_management_requests_at_once_get_their_own_answers(observed: Observed) -> None:
    """Four requests on one pair of links."""
    assert observed["requestsAtOnce"] == ["0", "1", "2", "3"]


def test_a_reader_starts_at_the_requested_position(observed: Observed) -> None:
    """Of four events, from the second one: past it or at it."""
    assert observed["positions"] == {
        "offset": ["c", "d"],
        "offsetInclusive": ["b", "c", "d"],
        "sequenceNumber": ["c", "d"],
        "sequenceNumberInclusive": ["b", "c", "d"],
        "enqueuedOn": ["c", "d"],
    }


def test_from_latest_only_new_events_come(observed: Observed) -> None:
    """`@latest` skips what is there."""
    assert set(observed["latest"]) == {"new"}


def test_a_batch_arrives_whole_and_in_order(observed: Observed) -> None:
    """500 events with a body and an application property each."""
    assert observed["batch"] == [[number, number] for number in range(500)]


def test_a_key_is_one_partition_however_it_is_sent(observed: Observed) -> None:
    """The buffered producer hashes keys itself; the endpoint and the meter agree with it."""
    events = [0, 0, 0, 0]
    events[choose_partition("alice", 4)] = 2

    assert observed["key"] == events


def test_a_processor_resumes_from_its_checkpoint(observed: Observed) -> None:
    """A later one with the same checkpoints reads only what is new."""
    assert observed["resume"] == {
        "before": ["first", "second"],
        "after": ["third"],
        "checkpoint": 2,
    }


@pytest.mark.parametrize("call", ["send", "properties", "receive"])
def test_an_unknown_hub_is_not_found(observed: Observed, call: str) -> None:
    """The SDK's own code for it, which it does not retry."""
    error = observed["unknownHub"][call]

    assert (error["code"], error["retryable"]) == ("MessagingEntityNotFoundError", False)


def test_an_unknown_consumer_group_is_not_found(observed: Observed) -> None:
    """An error for the reader, not a silent wait."""
    error = observed["unknownGroup"]

    assert (error["code"], error["retryable"]) == ("MessagingEntityNotFoundError", False)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("send", "ArgumentOutOfRangeError"),
        ("receive", "ArgumentOutOfRangeError"),
        ("properties", "InvalidOperationError"),
    ],
)
def test_an_unknown_partition_is_a_wrong_argument(observed: Observed, call: str, code: str) -> None:
    """`$management` answers 400, to which the SDK gives a code of its own."""
    error = observed["unknownPartition"][call]

    assert (error["code"], error["retryable"]) == (code, False)


def test_a_position_past_the_end_is_a_wrong_argument(observed: Observed) -> None:
    """A checkpoint of another log is an error, not a silent wait."""
    assert observed["pastTheEnd"]["code"] == "ArgumentError"


def test_a_higher_owner_level_takes_the_partition(observed: Observed) -> None:
    """The weaker reader learns that it was disconnected."""
    assert observed["stolen"]["strong"] == ["x"]
    assert observed["stolen"]["weak"]["code"] == "ReceiverDisconnectedError"


@pytest.mark.parametrize("call", ["send", "properties"])
def test_a_wrong_key_is_unauthorized(observed: Observed, call: str) -> None:
    """Refused at `$cbs`, before any link."""
    assert observed["wrongKey"][call]["code"] == "UnauthorizedError"
