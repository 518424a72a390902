"""Builders for provisioned capacity: entries, and sharing them over days."""

from collections.abc import Mapping
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

from meter.ledger.keys import Dimensions
from meter.reports.capacity.entries import Entry, Holder, HolderKind, Idle, Payer
from meter.reports.capacity.sharing import Sharing, Tokens
from meter.usage import TokenUsage
from meter.window import Period, Window, window_of
from tests.support.ledger import dimensions

type HourUse = Mapping[str, Mapping[Dimensions, Tokens]]
"""Tokens by the hour's name and dimensions."""


def entry(**values: Any) -> Entry:
    """100 PTUs of backend `ptu` at 1 from November on, idle ones apart, but for what is given."""
    usual: dict[str, Any] = {
        "ptus": 100,
        "first": date(2026, 11, 1),
        "price": Fraction(1),
        "currency": "USD",
        "idle": Idle.SEPARATE,
        "ratios": {"gpt-4o": Fraction(4)},
        "place": "capacity.toml, line 1: capacity[1]",
    }
    if not values.keys() & {"backend", "deployment"}:
        usual["backend"] = "ptu"
    return Entry(**{**usual, **values})


def by(subject: str, **names: str) -> Dimensions:
    """The dimensions of a subject's calls on the provisioned backend."""
    return dimensions(**{"subject": subject, "backend": "ptu", "tier": "provisioned", **names})


def tokens(prompt: int, completion: int = 0, cached: int = 0) -> TokenUsage:
    """Token counts."""
    return TokenUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        cached_tokens=cached,
    )


def subject_of(payer: Payer) -> str:
    """What a payer is called when a report is grouped by subject."""
    match payer:
        case Dimensions():
            return payer.subject
        case Holder():
            return str(payer)
        case None:
            return "(idle)"


def team(name: str) -> Holder:
    """A team as a holder of idle units."""
    return Holder(HolderKind.TEAM, name)


def subject(name: str) -> Holder:
    """A subject as a holder of idle units."""
    return Holder(HolderKind.SUBJECT, name)


def hours_from(first: str, count: int) -> list[Window]:
    """So many hours from the named one on."""
    start = Window(first).start
    return [window_of(start + timedelta(hours=n), Period.HOUR) for n in range(count)]


def shared(
    of: Entry, used: HourUse, hours: list[Window], period: Period = Period.MONTH
) -> Sharing[str]:
    """The entry shared over these hours, at its own price, by subject."""
    assert of.price is not None
    days = {hour.start.date() for hour in hours}
    sharing = Sharing(of, prices=dict.fromkeys(days, of.price), period=period, name_of=subject_of)
    for hour in hours:
        sharing.add(hour, used.get(hour.name, {}))
    sharing.close()
    return sharing


def amounts(sharing: Sharing[str]) -> dict[str, Fraction]:
    """The amounts by subject, over all windows."""
    found: dict[str, Fraction] = {}
    for _, name, amount in sharing.amounts():
        found[name] = found.get(name, Fraction(0)) + amount
    return found


def by_window(sharing: Sharing[str]) -> dict[tuple[str, str], Fraction]:
    """The amounts by window and subject."""
    return {(window.name, name): amount for window, name, amount in sharing.amounts()}
