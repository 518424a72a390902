"""Rows as JSON: what is written is read back, whatever the mixture of columns and types."""

import json
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.adapters.odata.entity import StoredMoment, read_row, write_keys, write_row
from meter.ports import INT64, Row

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=2)), timezone(timedelta(hours=-9.5))])
MOMENTS = st.datetimes(datetime(1601, 1, 3), datetime(9999, 12, 30), timezones=ZONES)  # noqa: DTZ001
VALUES = st.one_of(
    TEXT,
    st.integers(INT64[0], INT64[-1]),
    MOMENTS,
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False),
    st.binary(max_size=20),
)
COLUMNS = st.dictionaries(TEXT.map("C{}%d%".format), VALUES, max_size=8)


def written(row: Row, partition: str = "p") -> str:
    return write_keys(partition) + write_row(row)


def with_etag(text: str) -> dict[str, object]:
    return {"odata.etag": 'W/"1"', **json.loads(text)}


@given(key=TEXT, partition=TEXT, columns=COLUMNS)
def test_what_is_written_is_read(key: str, partition: str, columns: dict[str, object]) -> None:
    """Absent values are not stored, and moments are read in UTC."""
    row = Row(key=key, columns=columns, etag='W/"1"')
    found = read_row(with_etag(written(row, partition)))

    kept = {name: value for name, value in columns.items() if value is not None}
    assert found == (partition, Row(key=key, columns=kept, etag='W/"1"'))
    types = {name: type(value) for name, value in kept.items()}
    assert {name: type(value) for name, value in found[1].columns.items()} == types


@given(st.lists(st.builds(Row, key=TEXT, columns=COLUMNS), max_size=5))
def test_rows_do_not_depend_on_those_before(rows: list[Row]) -> None:
    """Rows of the same columns share a template, but no value."""
    texts = [written(row) for row in rows]

    assert [written(row) for row in reversed(rows)] == texts[::-1]
    assert all(len(text.splitlines()) == 1 and text.isascii() for text in texts)


class Kind(StrEnum):
    """A kind."""

    ONE = "one"


class Number(IntEnum):
    """A number."""

    ONE = 1


def test_enums_are_stored_as_their_values() -> None:
    """A `StrEnum` is a text, an `IntEnum` a whole number."""
    row = Row(key="k", columns={"A": Kind.ONE, "B": Number.ONE, "C": True})

    assert read_row(json.loads(written(row)))[1].columns == {"A": "one", "B": 1, "C": True}
    assert '"C":true' in written(row)


@pytest.mark.parametrize("value", [INT64[-1] + 1, INT64[0] - 1])
def test_a_number_out_of_range_is_named(value: int) -> None:
    """Also beside others that are not."""
    with pytest.raises(ValueError, match=r"^B: not a number of 64 bits: -?92"):
        write_row(Row(key="k", columns={"A": 1, "B": value, "C": 2}))


@pytest.mark.parametrize("name", ["PartitionKey", "RowKey"])
def test_a_column_cannot_have_the_name_of_a_key(name: str) -> None:
    """Or the row would be stored elsewhere."""
    with pytest.raises(ValueError, match=name):
        write_row(Row(key="k", columns={name: "x"}))


@pytest.mark.parametrize("text", ["2026-11-23T07:30:15.1234567Z", "2026-11-23T07:30:15.1234560Z"])
def test_a_moment_that_was_read_is_written_with_the_services_digits(text: str) -> None:
    """The service keeps one digit more than `datetime`."""
    entity = {"PartitionKey": "p", "RowKey": "k", "At@odata.type": "Edm.DateTime", "At": text}
    _, row = read_row(entity)

    assert row.columns == {"At": datetime(2026, 11, 23, 7, 30, 15, 123456, tzinfo=UTC)}
    assert isinstance(row.columns["At"], StoredMoment)
    assert json.loads(written(row))["At"] == text


def test_two_moments_at_the_same_hour_of_a_clock_put_back_are_two() -> None:
    """Equal to Python, an hour apart in UTC."""
    first = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    row = Row(key="k", columns={"A": first, "B": first.replace(fold=1)})

    entity = json.loads(written(row))
    assert (entity["A"], entity["B"]) == (
        "2026-10-25T00:30:00.000000Z",
        "2026-10-25T01:30:00.000000Z",
    )


def test_other_types_are_read() -> None:
    """As the SDK reads them; analysts may add such columns."""
    entity = {
        "PartitionKey": "p",
        "RowKey": "k",
        "Timestamp": "2026-11-23T07:30:15.1234567Z",
        "Small": 7,
        "Text@odata.type": "Edm.String",
        "Text": "x",
        "Half": 0.5,
        "Endless@odata.type": "Edm.Double",
        "Endless": "-Infinity",
        "Id@odata.type": "Edm.Guid",
        "Id": "c9da6455-213d-42c9-9a79-3e9149a57833",
    }
    _, row = read_row(entity)

    assert row.columns == {
        "Small": 7,
        "Text": "x",
        "Half": 0.5,
        "Endless": float("-inf"),
        "Id": UUID("c9da6455-213d-42c9-9a79-3e9149a57833"),
    }
    assert row.etag == "W/\"datetime'2026-11-23T07%3A30%3A15.1234567Z'\""
    assert row.written_at == datetime(2026, 11, 23, 7, 30, 15, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("edm", "value"),
    [
        ("Edm.Int64", "x"),
        ("Edm.Int64", None),
        ("Edm.DateTime", "x"),
        ("Edm.DateTime", "2026-11-23T07:30:15"),
        ("Edm.DateTime", 7),
        ("Edm.Guid", "x"),
    ],
)
def test_a_value_that_is_not_of_its_type_is_refused(edm: str, value: object) -> None:
    """The adapter reports it as an answer that cannot be read."""
    entity = {"PartitionKey": "p", "RowKey": "k", "A@odata.type": edm, "A": value}

    with pytest.raises((ValueError, TypeError)):
        read_row(entity)
