"""A month's bill split by counted usage: `python -m bench.invoice`, a process of its own.

The export has a million rows of usage details; the usage is that of bench/report.py, read page by page
as Table Storage sends it.
"""

import argparse
import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.report import MODELS, MONTH, StreamingStore
from meter.gateway.backend import Backend
from meter.reports.invoice.columns import Metric
from meter.reports.invoice.grouping import ALL
from meter.reports.invoice.write.invoice import write_invoice
from meter.reports.write.report import Format
from meter.wiring.invoices import read_bill, split_bill

DAYS = 30
SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg"
ACCOUNT = f"{SUBSCRIPTION}/providers/Microsoft.CognitiveServices/accounts/east"
OTHER = f"{SUBSCRIPTION}/providers/Microsoft.Compute/virtualMachines/machine-"
METERS = (
    "GPT 5 Inpt Glbl 1M Tokens",
    "GPT 5 cchd Inpt Glbl 1M Tokens",
    "GPT 5 outpt Glbl 1M Tokens",
    "GPT 5 Mini Inpt Glbl 1M Tokens",
    "GPT 5 Mini cchd Inpt Glbl 1M Tokens",
    "GPT 5 Mini outpt Glbl 1M Tokens",
    "text-embedding-3-small-glbl Tokens",
)
# As exports have them: 52 columns, most of them empty or the same in all rows.
HEADER = (
    "InvoiceSectionName,AccountName,AccountOwnerId,SubscriptionId,SubscriptionName,ResourceGroup,"
    "ResourceLocation,Date,ProductName,MeterCategory,MeterSubCategory,MeterId,MeterName,MeterRegion,"
    "UnitOfMeasure,Quantity,EffectivePrice,CostInBillingCurrency,CostCenter,ConsumedService,ResourceId,"
    "Tags,OfferId,AdditionalInfo,ServiceInfo1,ServiceInfo2,ResourceName,ReservationId,ReservationName,"
    "UnitPrice,ProductOrderId,ProductOrderName,Term,PublisherType,PublisherName,ChargeType,Frequency,"
    "PricingModel,AvailabilityZone,BillingAccountId,BillingAccountName,BillingCurrencyCode,"
    "BillingPeriodStartDate,BillingPeriodEndDate,BillingProfileId,BillingProfileName,InvoiceSectionId,"
    "IsAzureCreditEligible,PartNumber,PayGPrice,PlanName,ServiceFamily\r\n"
)
ROW = (
    "research,account,owner@contoso.com,00000000-0000-0000-0000-000000000001,subscription,rg,"
    "swedencentral,11/{day:02}/2026,Azure OpenAI GPT5 - {meter} - SE Central,Foundry Models,"
    "Azure OpenAI GPT5,00000000-0000-0000-0000-{number:012},{meter},,1M,{quantity},0.0025,{cost},1234,"
    'Microsoft.CognitiveServices,{resource},"""project"": ""one"",""team"": ""two""",MS-AZR-0017P,,,,'
    "account,,,0.0025,,,,Azure,Microsoft,Usage,UsageBased,OnDemand,,8611537,Contoso,USD,11/01/2026,"
    "11/30/2026,8611537,Contoso,1,True,AAA-12345,0.0025,,AI and Machine Learning\r\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """An export, how much of it is the accounts', and what splitting it took."""

    rows: int
    own_rows: int
    megabytes: float
    subjects: int
    lines: int
    reading_seconds: float
    cpu_seconds: float
    peak_mb: float


def write_export(path: Path, rows: int, every: int) -> None:
    """Write an export in which each such row is of the account, the others of machines."""
    with path.open("w", newline="") as out:
        out.write(HEADER)
        out.writelines(_rows(rows, every))


def _rows(rows: int, every: int) -> Iterator[str]:
    for number in range(rows):
        meter = number // every % len(METERS)
        yield ROW.format(
            day=number % DAYS + 1,
            meter=METERS[meter],
            number=meter,
            quantity=f"{number % 997}.125",
            cost=f"{number % 997 / 400:.7f}",
            resource=ACCOUNT if number % every == 0 else f"{OTHER}{number % 5000}",
        )


class _Counting:
    """An output that only counts lines."""

    def __init__(self) -> None:
        self.lines = 0

    def write(self, text: str) -> int:
        """Count what is written."""
        self.lines += text.count("\n")
        return len(text)

    def isatty(self) -> bool:
        """It is no terminal."""
        return False


async def measure_here(rows: int, every: int, subjects: int) -> Measured:
    """Split the bill into lines of all dimensions, as CSV."""
    backend = Backend(name="east", url="https://east", resource_id=ACCOUNT)
    store = StreamingStore(subjects)
    out = _Counting()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "export.csv"
        write_export(path, rows, every)
        gc.collect()
        begun = time.process_time()
        bill = read_bill([path], None, month=MONTH, metric=Metric.BILLED, backends=[backend])
        read = time.process_time()
        split = await split_bill(bill, store, None, backends=[backend], groups=ALL)  # type: ignore[arg-type]  # of a store it has what is read
        await write_invoice(split, ALL, Format.CSV, out)  # type: ignore[arg-type]  # of a file it has what is written
        return Measured(
            rows=rows,
            own_rows=bill.rows,
            megabytes=path.stat().st_size / 1e6,
            subjects=subjects,
            lines=out.lines,
            reading_seconds=read - begun,
            cpu_seconds=time.process_time() - begun,
            peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        )


async def measure() -> list[Measured]:
    """Measure in processes of their own: an export of one account alone, and one of everything."""
    found = []
    for every in (1, 100):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.invoice", "--every", str(every)),
            stdout=asyncio.subprocess.PIPE,
        )
        answer, _ = await process.communicate()
        found.append(Measured(**json.loads(answer)))
    return found


def report(measured: list[Measured]) -> list[str]:
    """The section of the results."""
    first = measured[0]
    rows = [
        f"| {each.rows:,} | {each.own_rows:,} | {each.megabytes:,.0f} MB | {each.lines:,} | "
        f"{each.reading_seconds:,.1f} | {each.cpu_seconds:,.1f} | {each.peak_mb:,.0f} MB |"
        for each in measured
    ]
    return [
        "## Invoices",
        "",
        f"A month's usage details split into lines of all dimensions: {len(METERS)} meters, "
        f"{first.subjects:,} subjects who call {len(MODELS)} models on each of {DAYS} days. CPU seconds "
        "on one core, from the file to CSV; usage comes as the pages of Table Storage, without the "
        "network.",
        "",
        "| rows | of the account | export | lines | reading s | in all s | peak memory |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def main() -> int:
    """Measure, and print what was measured as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.invoice")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--every", type=int, default=1, help="one row in so many is the account's")
    parser.add_argument("--subjects", type=int, default=1_000)
    options = parser.parse_args()
    measured = asyncio.run(measure_here(options.rows, options.every, options.subjects))
    print(json.dumps(asdict(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
