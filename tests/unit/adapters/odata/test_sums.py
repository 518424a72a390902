"""Rows of sums as JSON: byte for byte what their columns are written as, and refused as they are."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.adapters.odata import entity, sums
from meter.adapters.odata.entity import StoredMoment
from meter.ledger.fold import Sums
from meter.ledger.keys import Dimensions, SumKey
from meter.ledger.rows import SumColumns, SumRow
from meter.ports import INT64, Row
from meter.usage import NO_USAGE, TokenUsage
from meter.window import windows_of
from tests.support.events import NOW
from tests.support.ledger import dimensions

TEXT = st.text(max_size=12) | st.sampled_from(["a%sb%d", "ü\u2028\n", "\ud800"])
COUNTS = st.one_of(st.just(0), st.integers(INT64[0], INT64[-1]), st.integers(1, 3))
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=2))])
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=ZONES)  # noqa: DTZ001
USAGES = st.tuples(*[COUNTS] * len(NO_USAGE)).map(TokenUsage._make)
SUMS = st.builds(
    Sums,
    calls=COUNTS,
    failed_calls=COUNTS,
    estimated_calls=COUNTS,
    missing_calls=COUNTS,
    tokens=USAGES,
    first_call_at=st.none() | MOMENTS,
    last_call_at=st.none() | MOMENTS,
    place=st.tuples(TEXT, TEXT),
    adjustments=st.sampled_from([0, 0, 0, 2]),
    adjusted=USAGES,
)
ROWS = st.builds(
    SumRow,
    key=st.builds(
        SumKey,
        window=st.sampled_from(windows_of(NOW)),
        dimensions=st.builds(Dimensions, *[TEXT] * len(dimensions())),
    ),
    sums=SUMS,
    revision=st.integers(0, INT64[-1]),
)
OPENED = st.dictionaries(st.sampled_from(["OpenDay", "OpenHour"]), TEXT)
PLAIN = Sums(calls=1, first_call_at=NOW, last_call_at=NOW)


def view(row: SumRow) -> SumColumns:
    return SumColumns(row, of_key=True, with_zeros=True)


def new(row: SumRow) -> SumColumns:
    return SumColumns(row, of_key=True)


def changed(row: SumRow) -> SumColumns:
    return SumColumns(row, of_key=False)


def sum_row(counted: Sums, revision: int = 1) -> SumRow:
    key = SumKey(windows_of(NOW)[0], dimensions())
    return SumRow(key=key, sums=counted, revision=revision)


def written(columns: SumColumns) -> str:
    return b"".join(sums.row_pieces(Row(key="k", columns=columns))).decode("ascii")


def same_text(columns: SumColumns) -> bool:
    text = written(columns)
    return text == entity.write_row(Row(key="k", columns=dict(columns)))


@given(row=ROWS, opened=OPENED)
def test_a_row_is_written_as_its_columns_are(row: SumRow, opened: dict[str, str]) -> None:
    """Of every form, also the second time, when its texts are known."""
    forms = [view(row), new(row), changed(row), view(row)]
    forms += [SumColumns(row, of_key=of_key, opened=opened) for of_key in (True, False)]

    assert all(same_text(each) for each in forms)


@given(SUMS)
def test_columns_are_those_of_the_sum(counted: Sums) -> None:
    """Whoever asks for them gets what the sum itself says."""
    row = sum_row(counted)

    assert view(row) == row.columns()
    assert new(row) == row.ledger_columns()
    assert changed(row) == row.changing_columns()


@pytest.mark.parametrize("form", [view, new, changed])
@pytest.mark.parametrize(
    ("row", "column"),
    [
        (sum_row(Sums(calls=2**63, first_call_at=NOW, last_call_at=NOW)), "Calls"),
        (sum_row(PLAIN, revision=2**63), "Revision"),
        (sum_row(Sums(first_call_at=NOW.replace(tzinfo=None), last_call_at=NOW)), "FirstCallAt"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(
    form: Callable[[SumRow], SumColumns], row: SumRow, column: str
) -> None:
    """As in any row."""
    with pytest.raises(ValueError, match=f"^{column}:"):
        written(form(row))


def test_a_moment_as_it_was_read_keeps_its_last_digit() -> None:
    """It equals one that lacks the digit, and was written just before."""
    read = StoredMoment.combine(NOW.date(), NOW.timetz())
    read.tables_service_value = "2026-11-23T07:30:15.1234567Z"
    same_text(view(sum_row(PLAIN)))
    text = written(view(sum_row(Sums(calls=1, first_call_at=NOW, last_call_at=read))))

    assert '"LastCallAt":"2026-11-23T07:30:15.1234567Z"' in text
