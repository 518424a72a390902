"""The contract of a spool, kept by the file and by the fake."""

from collections.abc import Callable

import pytest

from meter.adapters.spool import MAX_MEMORY_BYTES, FileSpool
from meter.errors import Overloaded
from meter.ports import Spool
from tests.fakes.gateway import FakeSpool

SPOOLS = pytest.mark.parametrize("make", [FileSpool, FakeSpool], ids=["file", "fake"])


@SPOOLS
def test_what_was_added_can_be_read_from_anywhere(make: Callable[[], Spool]) -> None:
    """In pieces of any size, before and after more is added."""
    spool = make()
    spool.append(b"abc")
    first = spool.read(1, 5)
    spool.append(b"def")

    assert (first, spool.read(0, 6), spool.read(2, 2), spool.read(6, 9)) == (
        b"bc",
        b"abcdef",
        b"cd",
        b"",
    )
    spool.close()


@SPOOLS
def test_more_than_fits_in_memory_is_kept(make: Callable[[], Spool]) -> None:
    """The real one moves to a file beyond a limit."""
    spool, parts = make(), [bytes([at]) * 300_000 for at in range(8)]
    for part in parts:
        spool.append(part)

    assert b"".join(spool.read(at * 300_000, 300_000) for at in range(8)) == b"".join(parts)
    assert len(b"".join(parts)) > MAX_MEMORY_BYTES
    spool.close()


@SPOOLS
def test_a_closed_spool_holds_nothing(make: Callable[[], Spool]) -> None:
    """Closing again changes nothing; using it is a programming error."""
    spool = make()
    spool.append(b"abc")
    spool.close()
    spool.close()

    with pytest.raises(ValueError, match="closed"):
        spool.append(b"d")
    with pytest.raises(ValueError, match="closed"):
        spool.read(0, 1)


def test_a_full_disk_is_an_instance_without_room() -> None:
    """The answer is a 503 with a wait; no backend is involved."""
    spool = FileSpool()
    spool.close()
    with open("/dev/full", "r+b", buffering=0) as full:
        spool._file = full  # type: ignore[assignment]  # a file like the one it would have
        with pytest.raises(Overloaded) as refused:
            spool.append(b"a")

    assert (refused.value.status, refused.value.retry_after_seconds) == (503, 1)


def test_a_fake_without_room_says_the_same() -> None:
    """Tests of the front door rely on it."""
    with pytest.raises(Overloaded):
        FakeSpool(room=2).append(b"abc")
