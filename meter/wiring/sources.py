"""What an export is made from: the tables, and the files of prices and capacity with their digests."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from meter.config.backends.read import load_known_backends
from meter.config.exports import ExportSettings, load_export_settings
from meter.config.prices import load_price_settings
from meter.errors import InvalidInput
from meter.ports import RowStore
from meter.reports.capacity.entries import Capacity
from meter.reports.export.manifest import SourceFile
from meter.reports.export.source import Source
from meter.reports.focus.terms import FocusTerms, resources_of
from meter.reports.focus.version import UNKNOWN_ACCOUNT
from meter.reports.pricing.book import PriceBook
from meter.reports.usage import Watch
from meter.upkeep.closing.views import closed_views
from meter.wiring.books import configured_book, read_capacity_file
from meter.wiring.stored.documents import Documents, fetch_documents


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """What amounts are made from; `files` are those that it was read from."""

    book: PriceBook | None = None
    capacity: Capacity | None = None
    files: Sequence[SourceFile] = ()
    focus: FocusTerms = field(default_factory=FocusTerms)


def current_export_settings() -> ExportSettings:
    """Where the environment has exports go."""
    return load_export_settings(os.environ)


def configured_money(
    environment: Mapping[str, str] | None = None,
    *,
    book: PriceBook | None = None,
    prices: Sequence[Path | str] = (),
    capacity: Path | None = None,
    focus: FocusTerms | None = None,
    documents: Documents = MappingProxyType({}),
) -> Money:
    """What the settings name, where nothing else is given: a book with its files, a capacity file.

    Raises InvalidInput, and InvalidSettings for the backends.
    """
    environment = os.environ if environment is None else environment
    exports = load_export_settings(environment)
    if exports.problems:
        raise InvalidInput(exports.problems)
    if book is None:
        settings = load_price_settings(environment)
        book, prices = configured_book(settings, documents), settings.files
    if capacity is None and exports.capacity is not None:
        capacity = Path(exports.capacity)
    return Money(
        book=book,
        capacity=None if capacity is None else read_capacity_file(capacity),
        files=[
            _digest(name, documents)
            for name in (*map(str, prices), *([] if capacity is None else [str(capacity)]))
        ],
        focus=focus
        or FocusTerms(
            billing_account=exports.billing_account or UNKNOWN_ACCOUNT,
            resources=resources_of(load_known_backends(environment, documents)),
        ),
    )


async def money_of(environment: Mapping[str, str]) -> Money:
    """What these settings alone name, blobs included. Raises as `configured_money` does."""
    return configured_money(environment, documents=await fetch_documents(environment))


async def source_on(store: RowStore, money: Money, watch: Watch | None = None) -> Source:
    """The source of an export. Raises StorageUnavailable, LedgerDamaged."""
    views = await closed_views(store)
    return Source(
        store=views,
        closed=views.closed.by_month.keys(),
        corrections=views.corrections,
        book=money.book,
        capacity=money.capacity,
        focus=money.focus,
        files=money.files,
        watch=watch,
    )


def _digest(name: str, documents: Documents) -> SourceFile:
    path, known = Path(name), documents.get(name)
    try:
        data = known.encode() if isinstance(known, str) else path.read_bytes()
        return SourceFile(file=path.name, sha256=sha256(data).hexdigest())
    except OSError as exc:
        raise InvalidInput([f"{path}: cannot be read: {exc.strerror or exc}"]) from None
