"""Key components: what they look like, and which rows they name."""

from uuid import UUID

import pytest

from meter.ledger.keys import (
    LEDGER_PARTITIONS,
    MAX_COMPONENT_CHARS,
    LetterKey,
    SumKey,
    adjusted_row_key,
    call_row_key,
    escape,
    ledger_month,
    ledger_partition,
    ledger_table,
    parse_letter_key,
    parse_letter_row_key,
    parse_sum_key,
    subject_key,
    unescape,
    view_partition,
    view_range,
    view_subject_key,
    view_window,
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


def test_a_text_of_90_plain_characters_is_kept_readable() -> None:
    """The hash form begins only where the escaped form is longer than a component may be."""
    key = escape("a" * 90)

    assert key == "a" * 90


def test_a_longer_text_becomes_a_prefix_and_its_hash() -> None:
    """The key stays short and its owner can still be guessed from the prefix."""
    key = escape("a" * 91)

    assert key[:26] == "a" * 24 + "=~"
    assert len(key) == MAX_COMPONENT_CHARS == 90
    assert unescape(key) is None


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("a" * 24 + "|" * 80, "a" * 24),
        ("a" * 23 + "|" * 80, "a" * 23),
        ("a" * 22 + "|" * 80, "a" * 22),
        ("a" * 21 + "|" * 80, "a" * 21 + "=7C"),
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
        "s|2026-11-23|a=7Cb|app|gpt-4o|gpt-4o-2024-11-20|east|standard|short",
        "a=7Cb|app|gpt-4o|gpt-4o-2024-11-20|east|standard|short",
    )


CALL_ID = UUID("01934c60-0000-7000-8000-000000000001")


def test_a_calls_marker_is_named_by_its_id_and_its_subject() -> None:
    """Ids are unique per subject, and a partition holds many; ids first, since they sort by time."""
    assert call_row_key(CALL_ID, "a|b") == "c|01934c60-0000-7000-8000-000000000001|a=7Cb"
    assert adjusted_row_key(CALL_ID, "a|b") == "a|01934c60-0000-7000-8000-000000000001|a=7Cb"


@pytest.mark.parametrize("subject", ["alice", "a|b", "zoë", "x" * 200, "a", "c", "s", ""])
def test_every_kind_of_row_names_its_subject(subject: str) -> None:
    """So a fault of one subject's rows can be told from the others of its partition."""
    key = SumKey(Window("2026-11"), dimensions(subject=subject))
    rows = [
        call_row_key(CALL_ID, subject),
        adjusted_row_key(CALL_ID, subject),
        key.row_key,
    ]

    assert {subject_key(row) for row in rows} == {escape(subject)}
    assert view_subject_key(key.view_row_key) == escape(subject)


@pytest.mark.parametrize(
    ("subject", "partition"), [("alice", "10"), ("bob", "32"), ("b|ö", "24"), ("", "56")]
)
def test_a_subjects_ledger_partition_never_changes(subject: str, partition: str) -> None:
    """Its calls are looked for where they were counted: another one would count repeats again."""
    assert ledger_partition(subject) == partition


def test_there_are_64_ledger_partitions() -> None:
    """Named so that they sort by number."""
    assert (LEDGER_PARTITIONS[0], LEDGER_PARTITIONS[-1]) == ("00", "63")
    assert sorted({ledger_partition(f"s{n}") for n in range(2_000)}) == list(LEDGER_PARTITIONS)


@pytest.mark.parametrize("shard", [None, 0, 63])
def test_a_view_partition_names_its_window(shard: int | None) -> None:
    """With its shard, where the window is split; a range of windows has those of all shards."""
    window = Window("2026-11-23")
    partition = view_partition(window, shard)
    first, last = view_range(window, window)

    assert view_window(partition) == "2026-11-23"
    assert partition == "2026-11-23" + ("" if shard is None else f"~{shard:02}")
    assert first <= partition <= last
    assert not first <= view_partition(Window("2026-11-24"), shard) <= last


def test_each_month_has_its_own_ledger() -> None:
    """Retention is dropping a table; table names are letters and digits only."""
    table = ledger_table(Window("2026-11"))

    assert table == "Ledger202611"


def test_the_longest_keys_stay_below_what_the_service_takes() -> None:
    """A row key has at most 512 characters; names of any kind and length must be countable."""
    longest = "/" * 30
    names = dict.fromkeys(("subject", "client_app", "deployment", "model", "backend"), longest)
    place = SumKey(
        Window("2026-11-23T07"), dimensions(**names, tier="provisioned", context="short")
    ).place
    lengths = len(place.row_key), len(place.view_row_key), len(call_row_key(CALL_ID, longest))

    assert lengths == (488, 472, 129)


@pytest.mark.parametrize(
    "table",
    ["Ledger", "Ledger2026", "Ledger202613", "Ledger202600", "Ledger2026111", "ledger202611", "x"],
)
def test_a_table_of_another_name_is_no_ledger(table: str) -> None:
    """What is not ours is never taken for a month that may be dropped."""
    assert ledger_month(table) is None


def test_a_sums_key_parses_to_its_place() -> None:
    """A view row's key is the rest of the ledger row's, after the window."""
    found = parse_sum_key(PLACE.partition, PLACE.row_key)

    assert found == PLACE
    assert found.row_key == f"s|2026-11-23|{found.view_row_key}"
    assert found.names[0] == "a=7Cb"


@pytest.mark.parametrize(
    "row_key",
    [
        "",
        "s|",
        "s|2026-11|a|b|c|d|e|f",
        "s|2026-11|a|b|c|d|e|f|g|h",
        "S|2026-11|a|b|c|d|e|f|g",
        "c|2026-11|a|b|c|d|e|f|g",
        "v|writer.0",
    ],
)
def test_another_row_key_is_not_a_sums(row_key: str) -> None:
    """A sum has a window and every dimension."""
    with pytest.raises(ValueError, match="neither a marker nor a sum"):
        parse_sum_key("10", row_key)


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
