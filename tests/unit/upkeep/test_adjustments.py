"""Adjustments are counted once, beside the calls that they adjust, which stay as they are."""

import io
import json
from datetime import timedelta

import pytest

from meter.adjustment import ADJUSTMENT_TYPE, encode_adjustment
from meter.ledger.decode import Reason, decode
from meter.ledger.markers import read_marker
from meter.ledger.rows import ADJUSTMENT_COLUMNS, read_sums
from meter.reports.usage import usage_report
from meter.reports.write.report import Format, write_report
from meter.usage import NO_USAGE, TokenUsage
from tests.support.events import (
    NOW,
    RETENTION,
    USAGE,
    adjustment,
    event_id,
    message,
    raw_message,
    usage_event,
)
from tests.support.ledger import aggregator_on
from tests.support.rebuilding import ALICE, LEDGER, VIEW_ROW, Store, rebuild
from tests.support.reports import book, price, query, usage_of

CHANGE = TokenUsage(prompt_tokens=-4, completion_tokens=-1, total_tokens=-5)
VIEWS = {"UsageByHour": "2026-11-23T07", "UsageByDay": "2026-11-23", "UsageByMonth": "2026-11"}


@pytest.fixture
def store() -> Store:
    return Store()


async def test_an_adjustment_is_counted_once_in_columns_of_its_own(store: Store) -> None:
    """However often it is delivered; the call's own numbers do not move."""
    aggregator = aggregator_on(store)
    for _ in range(3):
        await aggregator.handle([message(usage_event(1), adjustment(1))])

    for table, window in VIEWS.items():
        ((_, row),) = [item for item in store.tables[table].items() if item[0][0] == window]
        sums = read_sums(row.columns)
        assert (sums.calls, sums.tokens) == (1, USAGE)
        assert (sums.adjustments, sums.adjusted) == (1, CHANGE)


async def test_sums_may_become_negative_and_pass_32_bits(store: Store) -> None:
    """An adjustment in another month than its call has nothing to be subtracted from there."""
    large = TokenUsage(prompt_tokens=2**39, total_tokens=2**39)
    october = NOW - timedelta(days=30)
    calls = [usage_event(n, time=october, usage=large) for n in (1, 2)]
    await aggregator_on(store).handle(
        [message(*calls, *(adjustment(n, usage=negated(large)) for n in (1, 2)))]
    )

    row = store.tables["UsageByMonth"]["2026-11", VIEW_ROW]
    assert read_sums(row.columns).adjusted.total_tokens == -(2**40)
    assert read_sums(row.columns).calls == 0


async def test_rows_without_adjustments_have_no_columns_for_them(store: Store) -> None:
    """Most rows never need them."""
    await aggregator_on(store).handle([message(usage_event(1))])

    rows = [row for table in store.tables.values() for row in table.values()]
    assert not [row for row in rows if ADJUSTMENT_COLUMNS & row.columns.keys()]


async def test_one_of_another_day_has_the_price_of_its_calls_place(store: Store) -> None:
    """Prices differ by region, and its day may have no call that says one; a rebuild agrees."""
    call = usage_event(
        1, time=NOW - timedelta(days=3), region="swedencentral", deployment_type="data-zone"
    )
    await aggregator_on(store).handle([message(call)])
    await aggregator_on(store).handle([message(adjustment(1), sequence_number=2)])
    prices = book(
        price("1", unit=1, region="swedencentral"),
        price("1", "output", unit=1, deployment_type="data-zone"),
    )
    today = query("day", "2026-11-23", "2026-11-23")
    (row,) = await usage_of(store, today, prices=prices)

    assert row.cost == -5
    assert (row.sums.calls, len(row.unpriced)) == (0, 0)
    assert (await rebuild(store)).differences == []


async def test_its_marker_says_what_it_adjusts_and_why(store: Store) -> None:
    """It shows why the adjustment was made."""
    await aggregator_on(store).handle([message(usage_event(1), adjustment(1))])

    row = store.tables[LEDGER][ALICE, f"c|{adjustment(1).id}|alice"]
    call = json.loads(str(row.columns["Call"]))
    assert (call["adjusts"], call["reason"]) == (str(event_id(1)), "the backend was billed twice")
    assert read_marker(row).usage == CHANGE


async def test_a_rebuild_finds_the_ledger_sound_and_repairs_adjusted_views(
    store: Store,
) -> None:
    """Adjustments are part of what markers add up to."""
    await aggregator_on(store).handle([message(usage_event(1), usage_event(2), adjustment(1))])
    sound = await rebuild(store)
    store.tamper("UsageByMonth", "2026-11", _view_key(store), AdjustedTotalTokens=99)
    repaired = await rebuild(store)

    assert sound.differences == []
    assert [each.columns[0].right for each in repaired.differences] == [-5]
    assert (await rebuild(store)).differences == []


async def test_a_rebuild_clears_adjustments_that_never_were(store: Store) -> None:
    """Also where the ledger has no column for them."""
    await aggregator_on(store).handle([message(usage_event(1))])
    store.tamper("UsageByMonth", "2026-11", _view_key(store), Adjustments=1, AdjustedTotalTokens=-7)
    await rebuild(store)

    ((_, row),) = store.tables["UsageByMonth"].items()
    assert read_sums(row.columns).adjusted == NO_USAGE
    assert row.columns["Adjustments"] == 0


async def test_the_report_shows_adjustments_in_columns_of_their_own(store: Store) -> None:
    """Only where there are any, also when they add up to nothing."""
    back = TokenUsage(prompt_tokens=4, completion_tokens=1, total_tokens=5)
    await aggregator_on(store).handle(
        [
            message(usage_event(1), adjustment(1)),
            message(usage_event(2, subject="bob"), adjustment(2, subject="bob", usage=back)),
        ]
    )
    out = io.StringIO()
    await write_report(usage_report(store, query()), Format.TABLE, out)

    assert out.getvalue() == (
        "2026-11-01 to 2026-11-30 UTC\n"
        "subject  calls  prompt  completion  total  "
        "adjustments  adj. prompt  adj. compl.  adj. total\n"
        "-------  -----  ------  ----------  -----  "
        "-----------  -----------  -----------  ----------\n"
        "alice        1      10           5     15  "
        "          1           -4           -1          -5\n"
        "bob          1      10           5     15  "
        "          1            4            1           5\n"
        "-------  -----  ------  ----------  -----  "
        "-----------  -----------  -----------  ----------\n"
        "total        2      20          10     30  "
        "          2            0            0           0\n"
    )


@pytest.mark.parametrize(
    ("member", "value", "detail"),
    [
        ("refers_to", "x", "data.refers_to must be a UUID"),
        ("reason", "", "data.reason must be a text of 1 to 500 characters"),
        ("reason", "r" * 501, "data.reason must be a text of 1 to 500 characters"),
        ("tier", "gold", "data.tier must be one of provisioned, standard"),
        ("usage", {}, "data.usage.prompt_tokens must be a whole number from -1000000000000"),
    ],
)
def test_one_that_cannot_be_read_becomes_a_dead_letter(
    member: str, value: object, detail: str
) -> None:
    """As with usage events: the member, the rule, the value."""
    document = json.loads(encode_adjustment(adjustment()))
    document["data"][member] = value
    found = decode([raw_message(json.dumps(document).encode())], now=NOW, retention=RETENTION)

    assert found.events == ()
    assert found.dead_letters[0].reason is Reason.INVALID_FIELD
    assert found.dead_letters[0].detail.startswith(detail)


def test_an_adjustment_survives_its_way_over_the_hub() -> None:
    """Encoded and read back it is the same."""
    made = adjustment(7, subject="jörg/β", reason='said "so"')
    found = decode([raw_message(encode_adjustment(made))], now=NOW, retention=RETENTION)

    assert found.events == (made,)
    assert json.loads(encode_adjustment(made))["type"] == ADJUSTMENT_TYPE


def _view_key(store: Store) -> str:
    ((_, key),) = store.tables["UsageByMonth"]
    return key


def negated(usage: TokenUsage) -> TokenUsage:
    return TokenUsage(**{name: -count for name, count in usage.as_document().items()})
