"""The checks that need no service of the app's own: settings, sign-in, issuers, clock, versions."""

import asyncio
from collections.abc import Mapping, Sequence

from meter import __version__
from meter.adapters.probes.identity import sign_in
from meter.adapters.probes.issuers import usable_keys
from meter.adapters.probes.versions import is_python_supported, read_versions
from meter.config.exports import ExportSettings
from meter.config.prices import load_price_settings
from meter.config.stored.address import Documents
from meter.config.values import SettingsParts
from meter.doctor import basics
from meter.doctor.checking import Check
from meter.doctor.finding import Area, Finding
from meter.gateway.backend import ManagedIdentity
from meter.wiring.books import book_problems


def settings_check(
    parts: SettingsParts,
    exports: ExportSettings,
    environment: Mapping[str, str],
    documents: Documents,
    *,
    on_app: bool,
) -> Check:
    """Every problem of the settings; of exports and the price book, which no call needs, as a warning."""

    async def run() -> Sequence[Finding]:
        prices = load_price_settings(environment)
        of_book = await asyncio.to_thread(book_problems, prices, documents)
        return basics.settings_findings(
            parts.problems,
            (*of_book, *exports.problems, *parts.warnings),
            references=sorted(parts.unresolved),
            on_app=on_app,
        )

    return Check(area=Area.SETTINGS, name="settings", run=run)


def sign_in_checks(parts: SettingsParts, client_id: str | None, *, on_app: bool) -> list[Check]:
    """Who signs in; nothing where every part has a key."""
    endpoints = [part.endpoint for part in (parts.hub, parts.storage) if part is not None]
    is_needed = any(each.address and not each.connection_string for each in endpoints) or any(
        isinstance(each, ManagedIdentity) for each in parts.auth.values()
    )
    if not is_needed:
        return []

    async def run() -> Sequence[Finding]:
        claims = await sign_in(client_id, parts.token_scope)
        return [basics.sign_in_finding(claims, on_app=on_app)]

    return [Check(area=Area.IDENTITY, name="sign-in", run=run)]


def issuer_checks(parts: SettingsParts) -> list[Check]:
    """The keys of each issuer."""
    rules = parts.rules
    return [] if rules is None else [_issuer(parts, issuer) for issuer in sorted(rules.issuers)]


def _issuer(parts: SettingsParts, issuer: str) -> Check:
    async def run() -> Sequence[Finding]:
        algorithms = sorted(parts.rules.algorithms) if parts.rules else []
        outcome = await usable_keys(issuer, parts.discovery_queries, algorithms)
        return [basics.issuer_finding(issuer, outcome, algorithms)]

    return Check(area=Area.ISSUERS, name=issuer, run=run)


def version_check(environment: Mapping[str, str]) -> Check:
    """What runs here."""

    async def run() -> Sequence[Finding]:
        versions = read_versions(__version__, environment)
        return basics.version_findings(versions, is_python_supported=is_python_supported())

    return Check(area=Area.VERSIONS, name="versions", run=run)
