"""Keys: for any text the key is legal, short, unique and can be read back."""

import re
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

from meter.ledger.keys import (
    MARK_PREFIX,
    MAX_COMPONENT_CHARS,
    SumKey,
    call_row_key,
    call_row_range,
    escape,
    ledger_month,
    ledger_table,
    sums_since,
    unescape,
)
from meter.window import Window, windows_of
from tests.support.events import texts
from tests.support.ledger import dimensions

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LONG_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=60, max_size=255)
LEGAL = re.compile(r"[A-Za-z0-9\-._@:=~]*")
HASH_FORM = re.compile(r"(?:[A-Za-z0-9\-._@:]|=[0-9A-F]{2}){7,24}=~[0-9a-f]{64}")


@given(ANY_TEXT | LONG_TEXT)
@example("=~")
@example("a=~" + "0" * 64)
def test_a_key_reads_back_as_its_text_or_is_a_hash(text: str) -> None:
    """Escaping is lossless, except for texts too long for a key."""
    key = escape(text)

    assert unescape(key) == text or HASH_FORM.fullmatch(key)


@given(ANY_TEXT | LONG_TEXT)
@example("\x00/\\#?%|'\"\x7f\x85")
@example("𐀀" * 255)
def test_a_key_is_legal_and_short(text: str) -> None:
    """No character Table Storage forbids, no separator, nothing but ASCII, never too long."""
    key = escape(text)

    assert LEGAL.fullmatch(key)
    assert len(key) <= MAX_COMPONENT_CHARS


@given(st.lists(ANY_TEXT | LONG_TEXT, unique=True, min_size=2, max_size=6))
@example(["a|b", "a=7Cb"])
@example(["ß" * 100, "ß" * 101])
def test_different_texts_have_different_keys(texts: list[str]) -> None:
    """Escaping is injective: no subject can be billed for another by choice of a name."""
    keys = {escape(text) for text in texts}

    assert len(keys) == len(texts)


@given(st.text("=~|7C%", min_size=1, max_size=40), st.text("=~|7C%", min_size=1, max_size=40))
def test_escapes_of_escapes_stay_apart(left: str, right: str) -> None:
    """Texts made of the escape's own characters collide no more than others."""
    keys = escape(left), escape(right)

    assert (keys[0] == keys[1]) == (left == right)


@given(st.lists(ANY_TEXT, min_size=4, max_size=4))
def test_joined_components_can_be_separated(parts: list[str]) -> None:
    """The separator is never part of a component."""
    joined = "|".join(map(escape, parts))

    assert [unescape(part) for part in joined.split("|")] == [
        text if unescape(escape(text)) is not None else None for text in parts
    ]


MOMENTS = st.datetimes(datetime(2026, 10, 30), datetime(2026, 12, 2), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis wants naive bounds


@given(moment=MOMENTS, since=MOMENTS, names=st.tuples(texts(20), texts(20)))
def test_the_sums_since_an_hour_are_one_range_of_row_keys(
    moment: datetime, since: datetime, names: tuple[str, str]
) -> None:
    """A sum of the month is in the range when its window holds the hour or anything after it."""
    *_, month = windows_of(moment)
    hour, *_ = windows_of(since)
    first, last = sums_since(hour, month)
    deployment, model = names
    own = dimensions(subject="s", deployment=deployment, model=model, tier="standard")

    for window in windows_of(moment):
        key = SumKey(window, own).place.row_key
        assert (first <= key <= last) == (window.end > hour.start)


@given(
    event_id=st.uuids(),
    subject=texts(255),
    month=MOMENTS.map(lambda moment: windows_of(moment)[2]),
)
def test_a_marker_and_a_mark_are_in_no_range_of_sums(
    event_id: UUID, subject: str, month: Window
) -> None:
    """Markers sort before all sums, and marks of writers after them."""
    first, last = sums_since(month, month)

    assert call_row_key(event_id, subject) < first
    assert last < f"{MARK_PREFIX}writer.0"


@given(first=st.uuids(), second=st.uuids(), event_id=st.uuids(), subject=texts(255))
def test_a_range_of_ids_has_the_markers_of_these_ids_of_any_subject(
    first: UUID, second: UUID, event_id: UUID, subject: str
) -> None:
    """Both ends included."""
    first, second = sorted((first, second))
    start, end = call_row_range(first, second)
    ids = {first: True, second: True, event_id: first <= event_id <= second}

    for each, is_inside in ids.items():
        assert (start <= call_row_key(each, subject) <= end) == is_inside


@given(moment=st.datetimes(datetime(2000, 1, 1), datetime(2999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001  # hypothesis wants naive bounds
def test_a_ledger_table_names_its_month(moment: datetime) -> None:
    """The name can be read back."""
    *_, month = windows_of(moment)

    assert ledger_month(ledger_table(month)) == month
