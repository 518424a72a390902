"""Reads the members of a JSON object strictly, one rule for each kind of value."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from meter.usage import (
    MAX_NAME_CHARS,
    MAX_SUBJECT_CHARS,
    Context,
    Outcome,
    Tier,
    UsageSource,
    clean_name,
    is_writable,
)

MAX_TOKENS = 10**12
FIRST_YEAR = 2000
_KINDS = (Tier, Context, Outcome, UsageSource)
_BY_VALUE: Mapping[Any, Mapping[str, Any]] = {each: {str(v): v for v in each} for each in _KINDS}


class Invalid(Exception):
    """A member is not what it must be; the text names its path, the rule and what it is."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Reads the members of a JSON object strictly, naming the path of what it refuses."""

    members: Mapping[str, object]
    path: str

    def exactly(self, name: str, value: object) -> None:
        if self.members.get(name) != value:
            raise self.refused(name, f"must be {value!r}")

    def text(self, name: str, *, most: int = MAX_NAME_CHARS) -> str:
        value = self.members.get(name)
        if isinstance(value, str) and 0 < len(value) <= most and is_writable(value):
            return value
        raise self.refused(name, f"must be a text of 1 to {most} characters")

    def optional_text(self, name: str) -> str | None:
        return None if self.members.get(name) is None else self.text(name, most=MAX_SUBJECT_CHARS)

    def count(self, name: str, *, least: int = 0) -> int:
        value = self.members.get(name)
        if type(value) is not int or not least <= value <= MAX_TOKENS:
            raise self.refused(name, f"must be a whole number from {least} to {MAX_TOKENS}")
        return value

    def optional_count(self, name: str) -> int | None:
        return None if self.members.get(name) is None else self.count(name)

    def flag(self, name: str) -> bool:
        value = self.members.get(name)
        if not isinstance(value, bool):
            raise self.refused(name, "must be true or false")
        return value

    def label(self, name: str) -> str | None:
        """A text that only says more of the call: cut rather than refused, None if it is no text."""
        return clean_name(self.members.get(name))

    def choice[E: StrEnum](self, name: str, kind: type[E], *, absent: E | None = None) -> E:
        if absent is not None and self.members.get(name) is None:
            return absent
        found: E | None = _BY_VALUE[kind].get(str(self.members.get(name)))
        if found is not None:
            return found
        raise self.refused(name, f"must be one of {', '.join(kind)}")

    def moment(self, name: str) -> datetime:
        try:
            value = datetime.fromisoformat(self.text(name))
            if value.tzinfo is None or value.year < FIRST_YEAR:
                raise ValueError(value)
            return value.astimezone(UTC)
        except (ValueError, OverflowError) as exc:
            raise self.refused(name, "must be an RFC 3339 time with its offset") from exc

    def uuid(self, name: str) -> UUID:
        try:
            return UUID(self.text(name))
        except ValueError:
            raise self.refused(name, "must be a UUID") from None

    def part(self, name: str) -> "Fields":
        value = self.members.get(name)
        if not isinstance(value, dict):
            raise self.refused(name, "must be an object")
        return Fields(value, f"{self.path}{name}.")

    def optional_object(self, name: str) -> Mapping[str, object] | None:
        return None if self.members.get(name) is None else self.part(name).members

    def optional_parts(self, name: str) -> list["Fields"]:
        return [] if self.members.get(name) is None else self.parts(name)

    def parts(self, name: str) -> list["Fields"]:
        value = self.members.get(name)
        if isinstance(value, list) and set(map(type, value)) <= {dict}:
            return [Fields(item, f"{self.path}{name}[{i}].") for i, item in enumerate(value)]
        raise self.refused(name, "must be a list of objects")

    def refused(self, name: str, rule: str) -> Invalid:
        got = repr(self.members.get(name))[:100]
        return Invalid(f"{self.path}{name} {rule}, got {got}")
