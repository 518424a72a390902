"""Compares what the tables count for each run's subject with what the backends served."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables.aio import TableServiceClient

from local.plan import Plan
from local.stand_ins import served_by

STILL_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A subject's calls in the tables, those of them that failed, and the calls that were served."""

    calls: int = 0
    failed: int = 0
    served: int = 0

    @property
    def is_true(self) -> bool:
        """Whether each call that a backend served is counted as such, once."""
        return self.calls - self.failed == self.served

    def __str__(self) -> str:
        return f"{self.calls} ({self.failed} failed)" if self.failed else str(self.calls)


async def count(plan: Plan) -> Mapping[str, Counted]:
    """By subject, once all that was served is counted; or nothing has changed for a while."""
    served = Counter(call["caller_subject"] for call in await served_by(plan))
    before, changed = None, time.monotonic()
    while True:
        calls, failed = await _in_tables(plan)
        found = {
            subject: Counted(
                calls=calls[subject], failed=failed[subject], served=served.get(subject, 0)
            )
            for subject in calls.keys() | served.keys()
        }
        if all(each.is_true for each in found.values()):
            return found
        if found != before:
            before, changed = found, time.monotonic()
        if time.monotonic() - changed > STILL_SECONDS:
            return found
        await asyncio.sleep(0.3)


async def _in_tables(plan: Plan) -> tuple[Counter[str], Counter[str]]:
    calls: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    async with TableServiceClient.from_connection_string(plan.storage_connection_string) as service:
        rows = service.get_table_client("UsageByMonth").query_entities("PartitionKey ne ''")
        try:
            async for row in rows:
                calls[row["Subject"]] += int(row["Calls"].value)
                failed[row["Subject"]] += int(row["FailedCalls"].value)
        except ResourceNotFoundError:
            pass  # nothing is counted yet
    return calls, failed
