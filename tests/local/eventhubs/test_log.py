"""The partition log: acknowledged events exist after any cut, and never twice."""

from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.eventhubs import Config, ConfigError, HubConfig
from local.eventhubs.broker import Broker, DataInUseError
from local.eventhubs.log import CorruptLogError, PartitionLog
from local.eventhubs.message import Message

_MESSAGES = st.builds(
    Message,
    header=st.binary(max_size=20),
    annotations=st.binary(max_size=20),
    partition_key=st.none() | st.text(max_size=10),
    body=st.binary(max_size=200),
)


def _message(body: bytes) -> Message:
    return Message(header=b"", annotations=b"", partition_key=None, body=body)


@given(st.lists(st.lists(_MESSAGES, min_size=1, max_size=4), min_size=1, max_size=4), st.data())
def test_a_log_cut_at_any_byte_keeps_every_whole_batch(
    batches: list[list[Message]], data: st.DataObject
) -> None:
    """Recovery drops a torn last record as a whole: a batch is complete or absent."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "0.log"
        clock = count(1000)
        log = PartitionLog(path, lambda: next(clock))
        ends = [0]
        for batch in batches:
            log.append(batch)
            ends.append(log.end_position)
        before = log.read(0, 100)
        log.close()
        cut = data.draw(st.integers(0, ends[-1]))
        with path.open("r+b") as file:
            file.truncate(cut)

        recovered = PartitionLog(path, lambda: next(clock))

        whole = sum(len(batch) for batch, end in zip(batches, ends[1:], strict=True) if end <= cut)
        assert recovered.read(0, 100) == before[:whole]
        assert [event.message for event in before] == [m for batch in batches for m in batch]
        recovered.append([_message(b"next")])
        assert recovered.read(whole, 1)[0].message.body == b"next"
        recovered.close()


def test_damage_before_the_last_record_is_not_skipped(tmp_path: Path) -> None:
    """Cutting there would lose acknowledged events silently, so opening fails instead."""
    path = tmp_path / "0.log"
    log = PartitionLog(path, lambda: 0)
    log.append([_message(b"a" * 50)])
    log.append([_message(b"b" * 50)])
    log.close()
    damaged = bytearray(path.read_bytes())
    damaged[60] ^= 0xFF
    path.write_bytes(damaged)

    with pytest.raises(CorruptLogError, match="fails its checksum"):
        PartitionLog(path, lambda: 0)


def test_an_event_larger_than_one_read_is_read_whole(tmp_path: Path) -> None:
    """Reads are limited in size, but events are not cut."""
    log = PartitionLog(tmp_path / "0.log", lambda: 0)
    log.append([_message(b"a" * 1_000_000), _message(b"b")])

    sizes = [len(event.message.body) for first in (0, 1) for event in log.read(first, 10)]

    assert sizes == [1_000_000, 1]
    log.close()


def test_enqueued_times_never_go_back(tmp_path: Path) -> None:
    """A search by time needs them in order, even if the machine's clock steps back."""
    times = iter([5000, 3000, 6000])
    log = PartitionLog(tmp_path / "0.log", lambda: next(times))
    for body in (b"1", b"2", b"3"):
        log.append([_message(body)])

    enqueued = [event.enqueued_ms for event in log.read(0, 3)]

    assert enqueued == [5000, 5000, 6000]
    log.close()


def test_one_directory_has_one_writer(tmp_path: Path) -> None:
    """Two endpoints on one directory would assign the same sequence numbers."""
    config = Config(hubs=(HubConfig(name="hub", partition_count=1),))
    first = Broker(config, tmp_path, lambda: 0)

    with pytest.raises(DataInUseError):
        Broker(config, tmp_path, lambda: 0)

    first.close()
    Broker(config, tmp_path, lambda: 0).close()


def test_the_emulators_config_is_read() -> None:
    """Config.json is Microsoft's format, so that the same file serves both."""
    text = """{"UserConfig": {"NamespaceConfig": [{"Type": "EventHub", "Name": "emulatorNs1",
      "Entities": [{"Name": "eh1", "PartitionCount": "2",
                    "ConsumerGroups": [{"Name": "cg1"}]}]}]}}"""

    config = Config.parse(text)

    expected = HubConfig(name="eh1", partition_count=2, consumer_groups=("cg1",))
    assert config.hubs == (expected,)


def test_every_problem_of_a_config_is_reported_at_once() -> None:
    """One run of the command shows everything to fix."""
    hubs = (
        HubConfig(name="../up", partition_count=1),
        HubConfig(name="ok", partition_count=0),
    )

    with pytest.raises(ConfigError) as caught:
        Config(hubs=hubs)

    assert "'../up'" in str(caught.value)
    assert "got 0" in str(caught.value)
