"""Reads a capacity file (TOML) strictly: every problem at once, each with its file, line and key.

Numbers stay exact: a price is text, and TOML's floats are read as decimals.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from difflib import get_close_matches
from enum import StrEnum
from fractions import Fraction
from itertools import combinations

from meter.errors import InvalidInput
from meter.reports.capacity.entries import Capacity, Entry, Holder, HolderKind, Idle
from meter.reports.capacity.places import Lines, Path
from meter.reports.pricing.book import compared_model, compared_region, compared_word
from meter.reports.pricing.cells import DEPLOYMENT_TYPES

FROM_BOOK = "from price book"
_TABLES = ("ratios", "tokens_per_minute", "shares")
_NO_CURRENCY = "XXX"  # ISO 4217's word for it; the file is refused then
_MANDATORY = ("ptus", "from", "price_per_ptu_hour", "currency", "idle")
_KEYS = ("backend", "deployment", *_MANDATORY, "to", "region", "deployment_type", *_TABLES)
_PRICE = re.compile(r"\d{1,30}(\.\d{1,30})?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_ANY_DAY = date(2000, 1, 1)
_MOST_PTUS = 10_000_000
_MOST = Decimal(10) ** 12  # of a ratio, a rate or a share
_DECIMALS = 12


def read_capacity(data: bytes, file: str) -> Capacity:
    """The entries of a file. Raises InvalidInput with every problem."""
    try:
        text = data.decode("utf-8-sig")
        document = tomllib.loads(text, parse_float=Decimal)
    except UnicodeDecodeError as exc:
        raise InvalidInput([f"{file}: is not UTF-8 text: byte {exc.start + 1}"]) from None
    except (ValueError, ArithmeticError, RecursionError) as exc:
        raise InvalidInput([f"{file}: is not valid TOML: {str(exc)[:200]}"]) from None
    reader = _Reader(file, Lines(text))
    capacity = reader.capacity(document)
    if reader.problems:
        raise InvalidInput(reader.problems)
    return capacity


class _Reader:
    """Reads the document, and collects the problems with it."""

    def __init__(self, file: str, lines: Lines) -> None:
        self._file = file
        self._lines = lines
        self.problems: list[str] = []

    def capacity(self, document: Mapping[str, object]) -> Capacity:
        for key in document:
            if key != "capacity":
                self.problem((key,), "is unknown: the file has [[capacity]] entries alone")
        tables = document.get("capacity")
        if isinstance(tables, dict):
            self.problem(("capacity",), "is a list of entries: write [[capacity]], in two brackets")
        elif not isinstance(tables, list) or not tables:
            if not self.problems:
                self.problem((), "has no entry: write [[capacity]] and its keys")
        else:
            readers = [_EntryReader(self, index, table) for index, table in enumerate(tables)]
            entries = [each.entry() for each in readers]
            self._refuse_overlaps(entries)
            return Capacity(entries=entries)
        return Capacity(entries=())

    def _refuse_overlaps(self, entries: list[Entry]) -> None:
        for (_, one), (index, other) in combinations(enumerate(entries), 2):
            if (other.backend or other.deployment) and one.overlaps(other):
                # Added up, a forgotten `to` would double a cost without a word.
                self.problem(
                    ("capacity", index, "from"),
                    f"is inside the days of another entry of {other.label} ({one.place}): end one "
                    "before the other begins, or write their units as one entry",
                )

    def place(self, path: Path) -> str:
        """The file, the line where it is known, and the key."""
        line = self._lines.line_of(path)
        where = f"{self._file}, line {line}" if line else self._file
        key = _path_text(path)
        return f"{where}: {key}" if key else where

    def problem(self, path: Path, text: str) -> None:
        """Report a problem."""
        self.problems.append(f"{self.place(path)}{' ' if path else ': '}{text}")


class _EntryReader:
    """Reads one [[capacity]]; goes on with a harmless value where one is refused."""

    def __init__(self, reader: _Reader, index: int, table: object) -> None:
        self._reader = reader
        self._path: Path = ("capacity", index)
        self._table: Mapping[str, object] = table if isinstance(table, dict) else {}
        self._is_table = isinstance(table, dict)

    def entry(self) -> Entry:
        """The entry."""
        if not self._is_table:
            self._problem("must be a table: write [[capacity]] and its keys")
        self._check_keys()
        idle = self._choice("idle", Idle, Idle.SEPARATE)
        first, end = self._days()
        return Entry(
            backend=self._text("backend"),
            deployment=self._text("deployment"),
            ptus=self._ptus(),
            first=first,
            end=end,
            price=self._price(),
            currency=self._currency(),
            idle=idle,
            ratios=self._numbers("ratios", compared_model),
            tokens_per_minute=self._numbers("tokens_per_minute", compared_model),
            shares=self._shares(idle),
            region=compared_region(self._text("region")),
            deployment_type=self._deployment_type(),
            place=self._reader.place(self._path),
        )

    def _problem(self, text: str, *keys: str) -> None:
        self._reader.problem((*self._path, *keys), text)

    def _check_keys(self) -> None:
        table = self._table
        for key in table:
            if key not in _KEYS:
                near = get_close_matches(key.lower().replace("-", "_"), _KEYS, n=1)
                hint = f"did you mean {near[0]}?" if near else f"accepted are {', '.join(_KEYS)}"
                self._problem(f"is unknown: {hint}", key)
        if not self._is_table:
            return
        missing = [key for key in _MANDATORY if key not in table]
        if missing:
            self._problem(f"lacks {', '.join(missing)}")
        if ("backend" in table) == ("deployment" in table):
            got = "both" if "backend" in table else "neither"
            self._problem(f"must have either backend or deployment, got {got}")

    def _text(self, key: str) -> str:
        value = self._table.get(key)
        if value is None:
            return ""
        if isinstance(value, str) and value.strip():
            return value.strip()
        self._refuse(key, "a name in quotes")
        return ""

    def _refuse(self, key: str, accepted: str) -> None:
        self._problem(f"must be {accepted}, got {_shown(self._table[key])}", key)

    def _ptus(self) -> int:
        value = self._table.get("ptus", 1)
        if type(value) is int and 1 <= value <= _MOST_PTUS:
            return value
        self._refuse("ptus", f"a whole number from 1 to {_MOST_PTUS:,}")
        return 1

    def _days(self) -> tuple[date, date | None]:
        first, end = self._day("from") or _ANY_DAY, self._day("to")
        if end is not None and end <= first and "from" in self._table:
            self._problem(f"is exclusive, so it must be after from, {first}; got {end}", "to")
            return first, None
        return first, end

    def _day(self, key: str) -> date | None:
        value = self._table.get(key)
        if value is None or (isinstance(value, date) and not isinstance(value, datetime)):
            return value
        self._refuse(key, "a date (UTC) without quotes and time, like 2026-10-01")
        return None

    def _price(self) -> Fraction | None:
        value = self._table.get("price_per_ptu_hour")
        if value is None or value == FROM_BOOK:
            return None
        if isinstance(value, str) and _PRICE.fullmatch(value.strip()):
            return Fraction(value.strip())
        accepted = f'decimal text of 0 or more in quotes, like "1.00", or "{FROM_BOOK}"'
        if isinstance(value, Decimal | int) and not isinstance(value, bool):
            kind = "TOML float" if isinstance(value, Decimal) else "TOML integer"
            accepted += f" (it is a {kind}: put it in quotes)"
        self._refuse("price_per_ptu_hour", accepted)
        return None

    def _currency(self) -> str:
        value = self._table.get("currency", _NO_CURRENCY)
        if isinstance(value, str) and _CURRENCY.fullmatch(value):
            return value
        self._refuse("currency", 'a code of three capital letters (ISO 4217), like "USD"')
        return _NO_CURRENCY

    def _choice[E: StrEnum](self, key: str, choices: type[E], default: E) -> E:
        value = self._table.get(key, default.value)
        if value in list(choices):
            return choices(str(value))
        self._refuse(key, f"one of {', '.join(choices)}")
        return default

    def _deployment_type(self) -> str:
        text = compared_word(self._text("deployment_type"))
        if text and text not in DEPLOYMENT_TYPES:
            self._refuse("deployment_type", f"one of {', '.join(DEPLOYMENT_TYPES)}")
        return text

    def _shares(self, idle: Idle) -> dict[Holder, Fraction]:
        shares = self._numbers("shares", _read_holder)
        if idle is Idle.BY_SHARE and not self._table.get("shares"):
            self._problem("must name at least one share, since idle is by-share", "shares")
        return shares

    def _numbers[K](self, key: str, read: Callable[[str], K]) -> dict[K, Fraction]:
        """A table of exact numbers above 0."""
        table = self._table.get(key, {})
        if not isinstance(table, dict):
            self._refuse(key, f"a table: write [capacity.{key}] below the entry")
            return {}
        found: dict[K, Fraction] = {}
        for name, value in table.items():
            try:
                holder = read(name)
                if holder in found:
                    raise ValueError("is named twice")
                found[holder] = _number(name, value)
            except ValueError as exc:
                self._problem(str(exc), key, name)
        return found


def _number(name: str, value: object) -> Fraction:
    """An exact number. Raises ValueError that says what is accepted."""
    if isinstance(value, dict):
        # TOML reads `gpt-4.1 = 4` as a table `gpt-4` with a key `1`.
        inner = next(iter(value), "")
        raise ValueError(f'is a table: put a name with dots in quotes, like "{name}.{inner}"')
    if isinstance(value, Decimal | int) and not isinstance(value, bool):
        number = Decimal(value)
        exponent = number.as_tuple().exponent  # of what is no number, a letter
        if isinstance(exponent, int) and exponent >= -_DECIMALS and 0 < number <= _MOST:
            return Fraction(number)
    raise ValueError(
        f"must be a number above 0, of {_DECIMALS} decimals at most, got {_shown(value)}"
    )


def _read_holder(text: str) -> Holder:
    kind, colon, name = text.partition(":")
    if colon and kind in (HolderKind.TEAM, HolderKind.COST_CENTRE):
        if not name.strip():
            raise ValueError(f"needs a name behind {kind}:")
        return Holder(HolderKind(kind), name.strip())
    if not text.strip():
        raise ValueError("must be a subject, team:NAME or cost_centre:NAME")
    return Holder(HolderKind.SUBJECT, text)


def _shown(value: object) -> str:
    """A value as TOML has it."""
    match value:
        case bool():
            text = str(value).lower()
        case str():
            text = f'"{value}"'
        case dict():
            text = "a table"
        case list():
            text = "a list"
        case int() if value.bit_length() > 200:
            text = "a number of many digits"
        case _:
            text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _path_text(path: Path) -> str:
    """The key path as TOML writes it; entries are counted from 1."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            name = part if _BARE.fullmatch(part) else f'"{part}"'
            text += f".{name}" if text else name
    return text
