"""Key components: what they look like, and which rows they name."""

from uuid import UUID

import pytest

from meter.ledger.keys import (
    LetterKey,
    SumKey,
    call_row_key,
    escape,
    ledger_month,
    ledger_table,
    parse_letter_key,
    parse_letter_row_key,
    parse_sum_key,
    parse_view_key,
    unescape,
)
from meter.window import Window
from tests.support.ledger import dimensions

NAMES = dimensions(subject="a|b", deployment="gpt-4o", model="gpt-4o-2024-11-20", tier="standard")
PLACE = SumKey(Window("2026-11-23"), NAMES).place


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("alice@example.com", "alice@example.com"),
        ("urn:app-1._x", "urn:app-1._x"),
        ("a|b", "a=7Cb"),
        ("a=7Cb", "a=3D7Cb"),
        ("a/b\\c#d?e%f", "a=2Fb=5Cc=23d=3Fe=25f"),
        ("a b\n\x7f", "a=20b=0A=7F"),
        ("~", "=7E"),
        ("zoë", "zo=C3=AB"),
        ("😀", "=F0=9F=98=80"),
        ("", ""),
    ],
)
def test_what_is_not_plain_is_written_in_hexadecimal(text: str, key: str) -> None:
    """ASCII letters, digits and `-._@:` stay; all else becomes the bytes of its UTF-8."""
    escaped = escape(text)

    assert escaped == key
    assert unescape(escaped) == text


def test_a_text_of_160_plain_characters_is_kept_readable() -> None:
    """The hash form begins only where the escaped form is longer than a component may be."""
    key = escape("a" * 160)

    assert key == "a" * 160


def test_a_longer_text_becomes_a_prefix_and_its_hash() -> None:
    """The key stays short and its owner can still be guessed from the prefix."""
    key = escape("a" * 161)

    assert key[:92] == "a" * 90 + "=~"
    assert len(key) == 156
    assert unescape(key) is None


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("a" * 90 + "|" * 80, "a" * 90),
        ("a" * 89 + "|" * 80, "a" * 89),
        ("a" * 88 + "|" * 80, "a" * 88),
        ("a" * 87 + "|" * 80, "a" * 87 + "=7C"),
    ],
)
def test_the_prefix_is_not_cut_inside_an_escape(text: str, prefix: str) -> None:
    """A reader of the prefix never sees half of an `=XX`."""
    key = escape(text)

    assert key.split("=~")[0] == prefix


def test_long_texts_with_one_prefix_have_different_keys() -> None:
    """The hash is of the whole text."""
    keys = {escape("a" * 250 + end) for end in "xyz"}

    assert len(keys) == 3


def test_rows_are_named_by_what_they_sum() -> None:
    """Names are separated by `|`, in the order of the published schema."""
    keys = PLACE.row_key, PLACE.view_row_key

    assert keys == (
        "s|2026-11-23|gpt-4o|gpt-4o-2024-11-20|standard",
        "a=7Cb|gpt-4o|gpt-4o-2024-11-20|standard",
    )


def test_a_calls_marker_is_named_by_its_id() -> None:
    """One id is one marker."""
    key = call_row_key(UUID("01934c60-0000-7000-8000-000000000001"))

    assert key == "c|01934c60-0000-7000-8000-000000000001"


def test_each_month_has_its_own_ledger() -> None:
    """Retention is dropping a table; table names are letters and digits only."""
    table = ledger_table(Window("2026-11"))

    assert table == "Ledger202611"


def test_the_longest_keys_stay_below_what_the_service_takes() -> None:
    """A row key has at most 512 characters; names of any kind and length must be countable."""
    longest = "/" * 53
    names = dimensions(subject=longest, deployment=longest, model=longest, tier="provisioned")
    place = SumKey(Window("2026-11-23T07"), names).place
    lengths = len(place.row_key), len(place.view_row_key)

    assert lengths == (347, 491)


@pytest.mark.parametrize(
    "table",
    ["Ledger", "Ledger2026", "Ledger202613", "Ledger202600", "Ledger2026111", "ledger202611", "x"],
)
def test_a_table_of_another_name_is_no_ledger(table: str) -> None:
    """What is not ours is never taken for a month that may be dropped."""
    assert ledger_month(table) is None


def test_both_keys_of_a_sum_parse_to_its_place() -> None:
    """The ledger's row and the view's row name the same components in different places."""
    from_ledger = parse_sum_key("a=7Cb", "s|2026-11-23|gpt-4o|gpt-4o-2024-11-20|standard")
    from_view = parse_view_key("2026-11-23", "a=7Cb|gpt-4o|gpt-4o-2024-11-20|standard")

    assert from_ledger == from_view == PLACE


@pytest.mark.parametrize(
    "row_key",
    ["", "s|", "s|2026-11|a|b", "s|2026-11|a|b|c|d", "S|2026-11|a|b|c", "c|2026-11|a|b|c"],
)
def test_another_row_key_is_not_a_sums(row_key: str) -> None:
    """A sum has a window and every dimension but the subject."""
    with pytest.raises(ValueError, match="neither a marker nor a sum"):
        parse_sum_key("alice", row_key)


def test_a_dead_letters_keys_name_one_place() -> None:
    """The row key sorts by sequence number; the text is what an operator types."""
    key = LetterKey("2026-11-23", "0", 1042, 2)

    assert key.row_key == "0|00000000000000001042|000002"
    assert str(key) == "2026-11-23/0/1042/2"
    assert parse_letter_key(str(key)) == key
    assert parse_letter_row_key("2026-11-23", key.row_key) == key


def test_a_row_with_a_further_part_of_a_body_is_no_letter() -> None:
    """It belongs to the letter before it."""
    key = LetterKey("2026-11-23", "0", 1042, 2)

    assert key.part_row_key(1) == "0|00000000000000001042|000002|1"
    assert parse_letter_row_key("2026-11-23", key.part_row_key(1)) is None
