"""A bypass takes parts once it is open."""

from meter.waiting.bypass import Bypass


def test_a_bypass_takes_nothing_before_it_is_open() -> None:
    """What came before may still be on its way."""
    bypass = Bypass(taker=lambda part: part == b"a")
    before = bypass.take(b"a")
    bypass.open()

    assert (before, bypass.take(b"a"), bypass.take(b"b")) == (False, True, False)


def test_a_bypass_without_a_taker_takes_nothing() -> None:
    """An answer that is read to be counted has nobody to pass on to."""
    bypass = Bypass()
    bypass.open()

    assert bypass.take(b"a") is False
