"""Fetches an issuer's keys as the front door does."""

from collections.abc import Collection, Mapping

from meter.adapters.oidc import DiscoveryKeySource
from meter.adapters.probes.network import fault_of
from meter.doctor.answers import NoAnswer
from meter.errors import KeysUnavailable
from meter.gateway.caller.jwks import parse_key_set


async def usable_keys(
    issuer: str, queries: Mapping[str, Collection[str]], algorithms: Collection[str]
) -> NoAnswer | str | int:
    """How many keys can verify a token; or what is wrong with the issuer's documents."""
    try:
        documents = await DiscoveryKeySource(queries).fetch(issuer)
    except KeysUnavailable as exc:
        return str(exc) if exc.__cause__ is None else NoAnswer(fault_of(exc))
    keys = parse_key_set(documents).values()
    return sum(1 for key in keys if not key.algorithms.isdisjoint(algorithms))
