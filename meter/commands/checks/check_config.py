"""`python -m meter check-config`: lists every problem of the settings, or what they amount to."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meter.config.exports import ExportSettings
from meter.config.telemetry.settings import Exporter, missing_extra
from meter.config.values import Settings
from meter.errors import InvalidInput, InvalidSettings
from meter.gateway.backend import Backend
from meter.reports.pricing.book import PriceBook
from meter.terminal import printable
from meter.wiring.books import configured_book, read_capacity_file
from meter.wiring.sources import current_export_settings
from meter.wiring.stored.current import current_price_settings, current_settings, stored_documents


@dataclass(frozen=True, slots=True)
class _Valid:
    """Settings without a problem, and what was read from where they point."""

    settings: Settings
    exports: ExportSettings
    book: PriceBook | None


def run() -> int:
    """List what is valid."""
    valid = _read()
    settings = valid.settings
    gateway = settings.gateway
    count = len(gateway.backends)
    _say(f"settings are valid: {count} backend{'' if count == 1 else 's'}")
    for backend in sorted(gateway.backends, key=lambda b: (b.priority, b.name)):
        facts = _list(backend.tier, backend.deployment_type, backend.region)
        _say(
            f"  {backend.name}: priority {backend.priority}, weight {backend.weight}, {facts}; "
            f"serves {', '.join(_served(backend))}"
        )
    rules = gateway.rules
    needed = [
        *(f"role {role}" for role in sorted(rules.required_roles)),
        *(f"scope {scope}" for scope in sorted(rules.required_scopes)),
    ]
    _say("let in: callers with a token")
    _say(f"  from {_or(rules.issuers)}")
    _say(f"  for {_or(rules.audiences)}")
    _say(f"  of {_or(rules.allowed_tenants, none='any tenant of these issuers')}")
    _say(f"  of {_or(rules.allowed_apps, none='any client app')}")
    _say(f"  with {_or(needed, none='no role or scope: none is required')}")
    _say(f"named by {_list(*rules.name_claims) or 'no claim: names are not recorded'}")
    _say(f"billed by the claim {rules.subject_claim}")
    if (book := valid.book) is not None:
        _say(f"money: {len(book.prices):,} prices in {book.currency}")
    if (container := valid.exports.container) is not None:
        _say(f"exports: every night to the container {container}")
    if settings.telemetry.exporter is not Exporter.OFF:
        _say(f"telemetry: to {settings.telemetry.exporter}")
    for warning in settings.warnings:
        _say(f"warning: {warning}")
    return 0


def _read() -> _Valid:
    """Everything, each blob and file once.

    Raises InvalidInput with all problems: of the settings, then of telemetry, exports and money, which no
    call needs.
    """
    problems: list[str] = []
    documents = stored_documents()
    settings = book = None
    with _collected(problems):
        settings = current_settings(documents)
        problems += filter(None, [missing_extra(settings.telemetry.exporter)])
    exports = current_export_settings()
    problems += exports.problems
    with _collected(problems):
        book = configured_book(current_price_settings(), documents)
    with _collected(problems):
        if exports.capacity is not None:
            read_capacity_file(Path(exports.capacity))
    if problems or settings is None:
        raise InvalidInput(problems)
    return _Valid(settings, exports, book)


@contextmanager
def _collected(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except (InvalidSettings, InvalidInput) as exc:
        problems += exc.problems


def _served(backend: Backend) -> Iterable[str]:
    """The public names; those whose deployments have facts of their own, with them."""
    for name, deployment in sorted(backend.deployments.items()):
        facts = _list(deployment.model, deployment.tier, deployment.deployment_type)
        yield f"{name} ({facts})" if facts else name


def _list(*names: str | None) -> str:
    return ", ".join(filter(None, names))


def _or(names: Iterable[str], *, none: str = "") -> str:
    return " or ".join(sorted(names)) or none


def _say(line: str) -> None:
    print(printable(line))
