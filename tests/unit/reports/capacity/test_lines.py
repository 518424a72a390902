"""What the lines of shares are called, however a report is grouped."""

import pytest

from meter.ledger.keys import escape
from meter.reports.capacity.entries import Holder, HolderKind, Payer
from meter.reports.capacity.lines import names_for
from meter.reports.owners import Owner, Owners
from meter.reports.query import Grouping
from tests.support.capacity import by, entry, subject, team

ALL = tuple(Grouping)
OWNERS = Owners({escape("alice"): Owner("Alice", "research", "4711")})
CENTRE = Holder(HolderKind.COST_CENTRE, "4711")


def names(payer: Payer, *groups: str) -> tuple[str, ...]:
    """The names of a payer of the units of backend `ptu`."""
    return names_for(entry(), [Grouping(group) for group in groups], OWNERS)(payer)


def test_calls_have_the_names_of_their_rows() -> None:
    """Dimensions as they were counted, and whom the subject belongs to."""
    assert names(by("alice"), *ALL) == (
        "alice", "Alice", "research", "4711", "app", "gpt-4o", "gpt-4o-2024-11-20", "ptu",
        "provisioned", "short",
    )  # fmt: skip
    assert names(by("bob"), "team") == ("(no team)",)


def test_the_idle_line_says_only_what_was_idle() -> None:
    """The units' backend and tier are known; nobody used them."""
    assert names(None, *ALL) == (
        "(idle)", "(idle)", "(idle)", "(idle)", "(idle)", "(idle)", "(idle)", "ptu", "provisioned",
        "(idle)",
    )  # fmt: skip


def test_the_idle_line_of_a_deployment_names_it() -> None:
    """An entry is of a backend or of a deployment."""
    of = entry(backend="", deployment="chat")
    groups = (Grouping.DEPLOYMENT, Grouping.BACKEND)

    assert names_for(of, groups, OWNERS)(None) == ("chat", "(idle)")


@pytest.mark.parametrize(
    ("holder", "line"),
    [
        (subject("alice"), ("alice", "Alice", "research", "4711")),
        (subject("bob"), ("bob", "(no name)", "(no team)", "(no cost centre)")),
        (
            team("research"),
            (
                "(idle) team:research",
                "(idle) team:research",
                "research",
                "(idle) team:research",
            ),
        ),
        (
            CENTRE,
            (
                "(idle) cost_centre:4711",
                "(idle) cost_centre:4711",
                "(idle) cost_centre:4711",
                "4711",
            ),
        ),
    ],
)
def test_a_holder_of_a_share_is_named_as_the_file_names_it(
    holder: Holder, line: tuple[str, ...]
) -> None:
    """A share of a team is the team's own line; it is not divided among its subjects."""
    assert names(holder, "subject", "name", "team", "cost_centre") == line
    assert names(holder, "team", "model") == (line[2], "(idle)")


def test_without_groups_there_is_one_line() -> None:
    """All shares add up in it."""
    assert {names(payer) for payer in (None, by("alice"), CENTRE)} == {()}
