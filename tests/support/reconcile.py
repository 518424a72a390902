"""Builders for reconciliations: tallies, terms, accounts and backends."""

from copy import replace
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from meter.reports.matching import BackendNames
from meter.reports.query import Query
from meter.reports.tally import CountedUnder, Hours, OwnDeployment, Recorded, Tally
from meter.reports.terms import GROUPS, Terms
from meter.window import Window

_SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg"
EAST = f"{_SUBSCRIPTION}/providers/Microsoft.CognitiveServices/accounts/east"
WEST = f"{_SUBSCRIPTION}/providers/Microsoft.CognitiveServices/accounts/west"
SEVEN = Window("2026-11-22T07")
EIGHT = Window("2026-11-22T08")


def tally(prompt: int = 0, completion: int = 0, calls: int = 0, **more: int) -> Tally:
    """A tally whose total is the sum of its tokens."""
    return Tally(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        calls=calls,
        **more,
    )


def terms(tolerance: str = "0", **changes: Any) -> Terms:
    """Terms for the whole of 22 November; the tolerance is a share, like `1/200`."""
    query = Query(
        first=Window("2026-11-22T00"),
        last=Window("2026-11-22T23"),
        groups=GROUPS,
    )
    return Terms(**{"query": query, "tolerance": Fraction(tolerance), **changes})


def served(backend: str, resource_id: str | None = EAST, **deployments: str) -> BackendNames:
    """A backend's deployments, as public=own; underscores stand for hyphens."""
    names = {name.replace("_", "-"): own for name, own in deployments.items()}
    return BackendNames(backend=backend, resource_id=resource_id, deployments=names)


def provisioned(backend: str, resource_id: str | None = EAST, **deployments: str) -> BackendNames:
    """The same, of a backend whose deployments are billed by capacity."""
    names = served(backend, resource_id, **deployments)
    return replace(names, provisioned=frozenset(names.deployments))


def under(backend: str, deployment: str, tier: str = "standard") -> CountedUnder:
    """What usage is counted under."""
    return CountedUnder(backend, deployment, tier)


def at_seven(prompt: int = 0, completion: int = 0, calls: int = 0, **more: int) -> Hours:
    """Usage of one hour."""
    return {SEVEN: tally(prompt, completion, calls, **more)}


def azure(
    hours: Hours, tiers: dict[str, int] | None = None, spilled: int | None = None
) -> Recorded:
    """What Azure recorded, split where something is given."""
    return Recorded(hours=hours, tiers=tiers, spilled_calls=spilled)


def own(name: str, resource_id: str = EAST) -> OwnDeployment:
    """A deployment on the east account."""
    return OwnDeployment(resource_id, name)


def tallies() -> st.SearchStrategy[Tally]:
    """Any numbers, with a total of its own."""
    counts = st.integers(0, 10**12)
    return st.builds(
        Tally,
        prompt_tokens=counts,
        completion_tokens=counts,
        total_tokens=counts,
        calls=counts,
    )


def hours() -> st.SearchStrategy[dict[Window, Tally]]:
    """Any hours of 22 November."""
    windows = st.integers(0, 23).map(lambda hour: Window(f"2026-11-22T{hour:02}"))
    return st.dictionaries(windows, tallies(), max_size=6)
