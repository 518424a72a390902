"""Reading a row by its key, and ranges of rows page by page: the addresses and the answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from meter.adapters.odata.entity import read_row
from meter.ports import Row

ACCEPT = "application/json;odata=minimalmetadata"
_NEXT = ("NextPartitionKey", "NextRowKey")


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Partitions and, in each, row keys, the ends included; None leaves an end open."""

    first_partition: str
    last_partition: str
    first_key: str | None = None
    last_key: str | None = None

    def filter(self) -> str:
        """The range as a filter. Rows are looked up by key only if it names one partition."""
        terms = [
            ("PartitionKey ge", self.first_partition),
            ("PartitionKey le", self.last_partition),
        ]
        if self.first_partition == self.last_partition:
            terms = [("PartitionKey eq", self.first_partition)]
        terms += [
            (f"RowKey {comparison}", key)
            for comparison, key in (("ge", self.first_key), ("le", self.last_key))
            if key is not None
        ]
        return " and ".join(f"{term} {_literal(key)}" for term, key in terms)


def address_of(table: str, partition: str, key: str) -> str:
    """The path of a row."""
    place = f"PartitionKey={_quoted(partition)},RowKey={_quoted(key)}"
    return f"/{quote(table, safe='')}({place})"


def address_of_page(
    table: str, where: Range, columns: Sequence[str] | None, after: Mapping[str, str]
) -> str:
    """The path and query of a page; `after` is what the page before it said."""
    options = {"$filter": where.filter(), **after}
    if columns is not None:
        options["$select"] = ",".join(["PartitionKey", "RowKey", *columns])
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(options.items()))
    return f"/{quote(table, safe='')}()?{query}"


def continuation(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Where the next page begins, to be given back as it is; empty after the last page."""
    found = {name: headers.get(f"x-ms-continuation-{name}") for name in _NEXT}
    return {name: value for name, value in found.items() if value}


def rows_of(document: object) -> Sequence[tuple[str, Row]]:
    """The rows of a page, as (partition, row). Raises ValueError if it is malformed."""
    entities = document.get("value") if isinstance(document, dict) else None
    if not isinstance(entities, list):
        raise ValueError("a page without a list of entities")
    return [_read(entity) for entity in entities]


def row_of(document: object) -> Row:
    """The row of a document that is one entity. Raises ValueError if it is malformed."""
    return _read(document)[1]


def _read(entity: object) -> tuple[str, Row]:
    if not isinstance(entity, dict) or not entity.keys() >= {"PartitionKey", "RowKey"}:
        raise ValueError("an entity without keys")
    try:
        return read_row(entity)
    except (TypeError, AttributeError) as exc:
        raise ValueError(f"no entity: {exc!r:.100}") from exc


def _quoted(key: str) -> str:
    return f"'{quote(key.replace("'", "''"), safe='')}'"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
