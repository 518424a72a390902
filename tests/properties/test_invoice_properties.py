"""The lines of any bill sum to it, to the last digit: per charge, per meter and in all."""

import asyncio
from collections import defaultdict
from decimal import Decimal, localcontext
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meter.ledger.rows import SumRow
from meter.reports.invoice.amounts import plain
from meter.reports.invoice.line import Line, LineKind
from meter.usage import TokenUsage
from tests.support.invoice import CACHED, INPUT, OUTPUT, bill_of, csv_of, details, split
from tests.support.reports import row

METERS = [INPUT, CACHED, OUTPUT, "gpt 4o 1120 Inp Data Zone Tokens", "gpt 4o Odd Tokens", ""]
AMOUNTS = st.decimals(
    min_value=Decimal("-1e9"), max_value=Decimal("1e9"), places=16, allow_nan=False
) | st.decimals(min_value=-100, max_value=100, places=2, allow_nan=False)
TOKENS = st.integers(0, 10**7)

billed = st.builds(
    lambda meter, day, cost, quantity, charge: details(
        MeterName=meter,
        MeterId=meter.replace(" ", "-"),
        Date=f"10/{day:02}/2026",
        CostInBillingCurrency=plain(cost),
        Quantity=plain(quantity),
        ChargeType=charge,
    ),
    st.sampled_from(METERS),
    st.integers(1, 2),
    AMOUNTS,
    st.decimals(min_value=-10, max_value=10_000, places=4, allow_nan=False),
    st.sampled_from(["Usage", "Refund", "RoundingAdjustment"]),
)
counted = st.builds(
    lambda subject, day, model, tier, prompt, cached, completion: row(
        f"2026-10-{day:02}",
        subject,
        usage=TokenUsage(
            prompt_tokens=prompt, cached_tokens=min(cached, prompt), completion_tokens=completion
        ),
        backend="backend",
        model=model,
        tier=tier,
    ),
    st.sampled_from("abcde"),
    st.integers(1, 2),
    st.sampled_from(["gpt-4o-2024-11-20", "gpt-4o", "gpt-4o-mini"]),
    st.sampled_from(["standard", "priority"]),
    TOKENS,
    TOKENS,
    TOKENS,
)


def sums() -> defaultdict[tuple[str, str, str], Decimal]:
    """By day, meter and type of charge."""
    return defaultdict(Decimal)


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(billed, min_size=1, max_size=12),
    uses=st.lists(counted, max_size=8, unique_by=lambda each: each.key),
)
def test_the_lines_sum_to_the_bill(
    rows: list[dict[str, str]], uses: list[SumRow], tmp_path: Path
) -> None:
    """Whatever was billed, refunded and counted; ratios of a charge sum to 1, quantities to the larger."""
    file = tmp_path / "export.csv"
    file.write_text(csv_of(*rows))
    lines, totals = asyncio.run(split(bill_of(file), *uses))

    with localcontext(prec=200):
        exported, found, ratios = sums(), sums(), sums()
        for each in rows:
            cost = Decimal(each["CostInBillingCurrency"])
            exported[each["Date"], each["MeterName"], each["ChargeType"]] += cost
        for line in lines:
            key = (f"{line.day:%m/%d/%Y}", line.meter.meter_name, line.charge_type)
            found[key] += line.cost
            ratios[key] += line.ratio
        assert all(line.cost.is_finite() for line in lines)
        assert found == exported
        assert sum(exported.values()) == totals.cost() == totals.cost(*LineKind)
        assert set(ratios.values()) <= {Decimal(1), Decimal(2)}  # of charges, and of negative ones
        for meter in totals.sorted():
            if meter.meter.meaning is not None:
                assert meter.billed - meter.not_counted + meter.not_billed == meter.counted
        used = sum(
            each.sums.tokens.prompt_tokens + each.sums.tokens.completion_tokens for each in uses
        )
        charged = sum(line.quantity for line in lines if line.kind is LineKind.COUNTED)
        assert charged + sum(totals.unbilled.values()) == used


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(billed, min_size=1, max_size=8),
    uses=st.lists(counted, max_size=5, unique_by=lambda each: each.key),
    data=st.data(),
)
def test_the_order_of_rows_and_files_changes_nothing(
    rows: list[dict[str, str]], uses: list[SumRow], data: st.DataObject, tmp_path: Path
) -> None:
    """Azure cuts an export into files as it likes; each line stays as it is."""
    whole, *parts = (tmp_path / f"{name}.csv" for name in ("whole", "one", "two"))
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(1, len(rows)))
    whole.write_text(csv_of(*rows))
    parts[0].write_text(csv_of(*shuffled[:cut]))
    parts[1].write_text(csv_of(*shuffled[cut:], columns=list(rows[0])))

    first, _ = asyncio.run(split(bill_of(whole), *uses))
    second, _ = asyncio.run(split(bill_of(*parts), *uses))

    def shown(lines: list[Line]) -> list[tuple[str, ...]]:
        return sorted(
            (
                f"{line.day} {line.meter.meter_name} {line.charge_type} {line.kind} {line.names}",
                f"{plain(line.ratio)} {plain(line.cost)}",
            )
            for line in lines
        )

    assert shown(first) == shown(second)
