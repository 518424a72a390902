"""The worked chargeback of docs/chargeback.md: its table, its CSV amounts, and what has no price."""

import csv
import io

from meter.ports import Row
from meter.reports.pricing.book import PriceBook
from meter.reports.write.report import Format
from meter.usage import TokenUsage
from tests.fakes.rows import MemoryRowStore
from tests.support.reports import book, price, query, row, text_of

MILLION = 1_000_000
PRICES: PriceBook = book(
    price("2.50", "input", "gpt-4o", unit=MILLION, end="2026-11-16"),
    price("2.20", "input", "gpt-4o", unit=MILLION, start="2026-11-16"),
    price("10.00", "output", "gpt-4o", unit=MILLION),
)
BACK = TokenUsage(prompt_tokens=-100_000, total_tokens=-100_000)


def tokens(prompt: int, completion: int) -> TokenUsage:
    return TokenUsage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
    )


ROWS = (
    row("2026-11-15", "alice", calls=300, usage=tokens(1_200_000, 80_000)),
    row(
        "2026-11-16",
        "bob",
        calls=200,
        usage=tokens(1_000_000, 50_000),
        adjusted=BACK,
        estimated_calls=5,
    ),
    row("2026-11-16", "nightly", calls=100, usage=tokens(500_000, 12_345)),
    row("2026-11-16", "nightly", model="other", usage=tokens(200_000, 0)),
)
TABLE = """\
2026-11-01 to 2026-11-30 UTC
team       cost centre       calls      total  adj. total  estimated  adj. cost  cost USD  share  no price for
---------  ----------------  -----  ---------  ----------  ---------  ---------  --------  -----  ------------
(no team)  (no cost centre)    101    712,345           0       0.0%          -      1.22  16.3%  input
research   4711                500  2,330,000    -100,000       1.0%      -0.22      6.28  83.7%
---------  ----------------  -----  ---------  ----------  ---------  ---------  --------  -----  ------------
total                          601  3,042,345    -100,000       0.8%      -0.22      7.50         input
"""


async def _text(form: Format) -> str:
    store = MemoryRowStore()
    for name in ("alice", "bob"):
        columns = {"Subject": name, "Team": "research", "CostCentre": "4711"}
        await store.write("Subjects", "subject", insert=[Row(key=name, columns=columns)])
    return await text_of(store, form, query(groups="team,cost_centre"), *ROWS, prices=PRICES)


async def test_the_table_is_that_of_the_page() -> None:
    """Two lines that add up to the cent."""
    assert await _text(Format.TABLE) == TABLE


async def test_files_have_the_exact_amounts() -> None:
    """Nothing is rounded in them, and a cost that is not known is empty."""
    lines = csv.DictReader(io.StringIO(await _text(Format.CSV), newline=""))

    names = ("team", "cost", "adjusted_cost", "share_percent", "unpriced")
    assert [[line[name] for name in names] for line in lines] == [
        ["(no team)", "1.22345", "", "16.3052", "input"],
        ["research", "6.28", "-0.22", "83.6948", ""],
    ]
