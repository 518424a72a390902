"""Reads settings one by one, and collects every problem with them.

A problem says what was refused and what is accepted, with an example. It never shows a secret.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from meter.config.stored.address import Documents
from meter.errors import Problem
from meter.patterns import lazy_pattern

_NUMBER = lazy_pattern(r"[+-]?[0-9]*\.?[0-9]*", re.ASCII)
# App Service puts the reference itself into the environment when it cannot resolve it.
_REFERENCE = "@microsoft."


class Reader:
    """Reads settings; continues with defaults where they are invalid.

    `problems` are those found so far, `asked` the names that were read, set or not. `documents` are those
    that were read already from the paths and addresses that settings name.
    """

    def __init__(
        self, environment: Mapping[str, str], documents: Documents = MappingProxyType({})
    ) -> None:
        self.environment = environment
        self.documents = documents
        self.problems: list[Problem] = []
        self.asked: set[str] = set()
        self._unresolved: set[str] = set()

    def text(self, name: str, default: str = "") -> str:
        """A setting's value without spaces around it; the default where it is not set."""
        self.asked.add(name)
        text = self.environment.get(name, "").strip()
        if is_reference(text) and name not in self._unresolved:
            self.problem(
                name,
                "is a reference that Azure has not resolved: check its name, and the app's access "
                "to the key vault or configuration store",
            )
            self._unresolved.add(name)
        return text or default

    def with_values(self, values: Mapping[str, str]) -> "Reader":
        """A reader with these in place of some settings; it reports to this one."""
        other = Reader({**self.environment, **values}, self.documents)
        other.problems, other.asked, other._unresolved = self.problems, self.asked, self._unresolved
        return other

    @property
    def unresolved(self) -> frozenset[str]:
        """The settings, of those that were read, that hold a reference which Azure has not resolved."""
        return frozenset(self._unresolved)

    def problem(self, setting: str, text: str, detail: str = "") -> None:
        """Report a problem; `detail` may name backends and files, so it is for operators."""
        if setting not in self._unresolved:
            self.problems.append(Problem(setting, text, detail))

    def names(self, name: str, default: str = "") -> frozenset[str]:
        """A comma-separated list of which the order does not matter."""
        return frozenset(self.ordered_names(name, default))

    def ordered_names(self, name: str, default: str = "") -> tuple[str, ...]:
        """A comma-separated list, each name once, in the order in which they stand."""
        text = self.text(name, default)
        if text.startswith(("[", "'", '"')):
            self.problem(name, "must be names separated by commas, without brackets and quotes")
        parts = (part.strip() for part in text.split(","))
        return tuple(dict.fromkeys(part for part in parts if part))

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        """A number within bounds."""
        text = self.text(name, str(default))
        try:
            value = float(text) if _NUMBER.fullmatch(text) else float("nan")
        except ValueError:
            value = float("nan")
        if least <= value <= most:
            return value
        accepted = f"a number from {_plain(least)} to {_plain(most)}"
        self.problem(name, f"must be {accepted}, got {text!r}; for example {_plain(default)}")
        return default

    def whole(self, name: str, default: int, *, least: int, most: int) -> int:
        """A whole number within bounds."""
        value = self.number(name, default, least=least, most=most)
        if value != int(value):
            text = self.text(name)
            self.problem(name, f"must be a whole number, got {text!r}; for example {default}")
        return int(value)

    def choice[E: StrEnum](self, name: str, default: E) -> E:
        """One of an enum's values."""
        text = self.text(name, default.value)
        try:
            return type(default)(text)
        except ValueError:
            self.problem(name, f"must be one of {', '.join(type(default))}, got {text!r}")
            return default

    def switch(self, name: str) -> bool:
        """`on` or `off`, in any case; on where it is not set."""
        text = self.text(name, "on").lower()
        if text not in {"on", "off"}:
            self.problem(name, f"must be on or off, got {text!r}")
        return text != "off"

    def flag(self, name: str) -> bool:
        """`true` or `false`, in any case; false where it is not set."""
        text = self.text(name, "false").lower()
        if text not in {"true", "false"}:
            self.problem(name, f"must be true or false, got {text!r}")
        return text == "true"


def is_reference(text: str | None) -> bool:
    """Whether a setting's value is a reference that Azure is to resolve."""
    return (text or "").strip().lower().startswith(_REFERENCE)


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)
