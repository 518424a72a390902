"""Damaged exports: whatever happened to a file, it is read, or refused in one line that names it."""

import gzip
import io
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meter.errors import InvalidInput
from tests.support.invoice import bill_of, csv_of, details, focus

ROWS = [details(Date=f"2026-10-{day:02}", Tags='a "b"\nc,é') for day in range(1, 5)]
TEXT = csv_of(*ROWS).encode()


def packed(rows: list[dict[str, str]]) -> bytes:
    """The rows as Parquet."""
    out = io.BytesIO()
    table = arrow.table({name: [row[name] for row in rows] for name in rows[0]})
    parquet.write_table(table, out)
    return out.getvalue()


FILES = [TEXT, TEXT, gzip.compress(TEXT, mtime=0), packed([focus()] * 4)]
PIECES = [b'"', b",", b"\n", b"\r", b";", b"\0", b"\xff", b"1e9", b'""', b"-", b""]

edits = st.tuples(
    st.integers(0, 1_000_000), st.integers(0, 40), st.sampled_from(PIECES) | st.binary(max_size=3)
)


@settings(
    deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.sampled_from(FILES), changes=st.lists(edits, min_size=1, max_size=5))
def test_a_damaged_file_is_read_or_refused(
    data: bytes, changes: list[tuple[int, int, bytes]], tmp_path: Path
) -> None:
    """Bytes are left out and put in anywhere."""
    for place, removed, added in changes:
        at = place % (len(data) + 1)
        data = data[:at] + added + data[at + removed :]
    file = tmp_path / "export"
    file.write_bytes(data)

    try:
        bill = bill_of(file)
    except InvalidInput as refusal:
        (problem,) = refusal.problems
        assert str(file) in problem
        assert "\n" not in problem
    else:
        assert bill.rows <= 8
