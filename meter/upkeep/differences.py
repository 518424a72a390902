"""What a rebuild finds: wrong rows, column by column."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from meter.ledger.keys import SumPlace, unescape


class Kind(StrEnum):
    """What is wrong with a row."""

    UNREADABLE = "unreadable"
    """A row of the ledger that is not as the app writes it."""
    WRONG_SUM = "wrong-sum"
    """A sum of the ledger that is not what its markers add up to."""
    MISSING = "missing"
    """A sum that no view row shows."""
    BEHIND = "behind"
    """A view row that shows an older state of its sum."""
    DIFFERENT = "different"
    """A view row that shows what its sum never was."""
    SURPLUS = "surplus"
    """A view row without a sum."""


LEDGER_KINDS = frozenset({Kind.UNREADABLE, Kind.WRONG_SUM})


@dataclass(frozen=True, slots=True)
class WrongColumn:
    """One column: the value that was found (None if absent) and the right one."""

    name: str
    found: object
    right: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One row that is wrong, and whether it has been repaired."""

    kind: Kind
    subject: str
    """For a row that names none, its ledger partition."""
    window: str = ""
    names: tuple[str, ...] = ()
    columns: tuple[WrongColumn, ...] = ()
    detail: str = ""
    is_repaired: bool = False
    is_kept: bool = False
    """A view row that may be all that is left of some calls, and stays for that."""


def difference_of(
    kind: Kind,
    place: SumPlace,
    columns: tuple[WrongColumn, ...] = (),
    *,
    is_repaired: bool,
) -> Difference:
    """A difference in the row of a sum, or in the view row that shows it."""
    return Difference(
        kind=kind,
        subject=readable(place.names[0]),
        window=place.window,
        names=tuple(map(readable, place.names[1:])),
        columns=columns,
        is_repaired=is_repaired,
    )


def differing(found: Mapping[str, object], right: Mapping[str, object]) -> tuple[WrongColumn, ...]:
    """The columns of `right` that have another value or type in `found`; others are ignored."""
    return tuple(
        WrongColumn(name, found.get(name), value)
        for name, value in right.items()
        if found.get(name) != value or type(found[name]) is not type(value)
    )


def readable(key: str) -> str:
    """The text of a key component, or the component itself if it holds only a hash, or no text."""
    try:
        return unescape(key) or key
    except ValueError:
        return key
