"""A pattern that is compiled at its first use does what the compiled one does."""

import re
from typing import Any

import pytest

from meter import patterns
from meter.patterns import lazy_pattern


@pytest.mark.parametrize("text", ["ab12", "AB", "", "12"])
def test_it_matches_as_the_compiled_one_does(text: str) -> None:
    """In every way that it is asked."""
    lazy, compiled = lazy_pattern(r"[a-z]+", re.IGNORECASE), re.compile(r"[a-z]+", re.IGNORECASE)

    for name in ("match", "fullmatch", "search"):
        mine, right = getattr(lazy, name)(text), getattr(compiled, name)(text)
        assert (mine and mine.span()) == (right and right.span())
    assert lazy.sub("x", text) == compiled.sub("x", text)
    assert lazy.findall(text) == compiled.findall(text)
    assert lazy.pattern == compiled.pattern


def test_it_is_compiled_once_and_not_before_its_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """For one use, that is: each has its own method of the pattern."""
    made: list[Any] = []

    class Counting:
        @staticmethod
        def compile(pattern: bytes, flags: int) -> re.Pattern[bytes]:
            made.append((pattern, flags))
            return re.compile(pattern, flags)

    monkeypatch.setattr(patterns, "re", Counting)
    lazy = lazy_pattern(b"a+")
    assert made == []

    assert [lazy.fullmatch(text) is None for text in (b"a", b"aa", b"b")] == [False, False, True]
    assert made == [(b"a+", 0)]


def test_a_mistake_shows_at_its_first_use() -> None:
    """As of `re.compile`."""
    lazy = lazy_pattern("(")

    with pytest.raises(re.error):
        lazy.match("x")
