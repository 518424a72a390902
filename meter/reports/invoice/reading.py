"""What meters charge for: by their names, or by a mapping file where one says so.

The mapping is CSV with a header line. Columns: meter_id or meter_name (in any case), kind, model, unit (how
many of the kind one unit of the export's quantity is), and optional deployment_type, tier, context.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meter.errors import InvalidInput
from meter.reports.invoice.meaning import Described, Meaning, Measured, ReadMeter, Unread
from meter.reports.pricing.book import ANY
from meter.reports.pricing.cells import READERS
from meter.reports.pricing.kinds import Kind
from meter.reports.pricing.meters.meter import Meter, Reason, Skipped
from meter.reports.pricing.meters.parse import parse_meter

_PRODUCT = "Azure OpenAI"
_NO_UNIT = "no unit of measure"
_NAMES = ("meter_id", "meter_name")
_MANDATORY = ("kind", "model", "unit")
_OPTIONAL = ("deployment_type", "tier", "context")
_DEFAULTS = dict.fromkeys(_OPTIONAL, ANY)
_COLUMNS = (*_NAMES, *_MANDATORY, *_OPTIONAL)


def meter_reader(mapping: Mapping[str, Measured]) -> ReadMeter:
    """Reads meters by the mapping, which has lower-case ids and names, and else by their names."""

    def read(meter: Described) -> Measured | Unread:
        found = mapping.get(meter.meter_id.lower()) or mapping.get(meter.name.lower())
        if found is None:
            return _parsed(meter)
        return found

    return read


def _parsed(meter: Described) -> Measured | Unread:
    if not meter.unit:
        return Unread(_NO_UNIT)
    found: Meter | Skipped = Skipped(Reason.NOT_AZURE_OPENAI)
    # Which of the two names the product has changed between versions of exports.
    products = [meter.group, meter.product]
    if not meter.group:  # somebody's excerpt of an export: the account is one of Azure OpenAI's
        products.append(_PRODUCT)
    for product in filter(None, products):
        if isinstance(found, Skipped) and found.reason is Reason.NOT_AZURE_OPENAI:
            found = parse_meter(product, meter.name, meter.unit)
    if isinstance(found, Skipped):
        return Unread(str(found))
    meaning = Meaning(found.kind, found.model, found.deployment_type, found.tier, found.context)
    return Measured(meaning, found.unit)


def read_mapping(lines: Iterable[str], file: str) -> dict[str, Measured]:
    """The meanings by lower-case id or name. Raises InvalidInput with every problem."""
    reader = _MappingReader(file)
    reader.read(lines)
    if reader.problems:
        raise InvalidInput(reader.problems)
    return reader.found


@dataclass(slots=True)
class _MappingReader:
    file: str
    problems: list[str] = field(default_factory=list)
    found: dict[str, Measured] = field(default_factory=dict)

    def read(self, lines: Iterable[str]) -> None:
        rows = csv.reader(lines)
        try:
            header = [name.strip().lower() for name in next(rows, [])]
            if not self._is_header(header):
                return
            for row in rows:
                if any(cell.strip() for cell in row):
                    self._row(header, row, rows.line_num)
        except csv.Error as exc:
            self._problem(f"is not CSV: {exc}", rows.line_num)

    def _is_header(self, header: Sequence[str]) -> bool:
        before = len(self.problems)
        if unknown := [name for name in header if name not in _COLUMNS]:
            accepted = ", ".join(_COLUMNS)
            self._problem(f"the columns are {accepted}; got {', '.join(map(repr, unknown))}")
        if twice := sorted({name for name in header if header.count(name) > 1}):
            self._problem(f"has a column twice: {', '.join(twice)}")
        missing = [name for name in _MANDATORY if name not in header]
        if not set(_NAMES) & set(header):
            missing = [" or ".join(_NAMES), *missing]
        if missing and not unknown:
            self._problem(f"has no column {', '.join(missing)}")
        return len(self.problems) == before

    def _row(self, header: Sequence[str], row: Sequence[str], line: int) -> None:
        if len(row) != len(header):
            self._problem(f"has {len(row)} cells, the header has {len(header)}", line)
            return
        cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
        before = len(self.problems)
        names = [cells[name].lower() for name in _NAMES if cells.get(name)]
        if not names:
            self._problem("needs a meter_id or a meter_name", line)
        found: dict[str, Any] = {}
        for name in (*_MANDATORY, *_OPTIONAL):
            try:
                found[name] = READERS[name](cells.get(name, "") or _DEFAULTS.get(name, ""))
            except ValueError as exc:
                self._problem(f"column {name}: {exc}; got {cells.get(name, '')!r}", line)
        if any(name in self.found for name in names[:1]):
            self._problem(f"maps {names[0]!r} a second time", line)
        if len(self.problems) == before:
            self.found[names[0]] = _measured(**found)

    def _problem(self, text: str, line: int = 1) -> None:
        self.problems.append(f"{self.file}, line {line}: {text}")


def _measured(*, kind: Kind, unit: int, **texts: str) -> Measured:
    return Measured(Meaning(kind, **texts), unit)
