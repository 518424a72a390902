"""Tells settings from names that nothing reads, since a misspelt setting would have no effect.

Refused are all other names that begin with `METER_` or `MeterStorage`, and those that are much like
`EventHubConnection`, `AzureWebJobsStorage` or a member of these that the app or the host reads.
"""

from collections.abc import Collection

from meter.config.reader import Reader

PREFIX = "METER_"
# Of the exports: read by themselves (`exports.py`), since calls do not need them.
READ_APART = frozenset({"METER_EXPORT_CONTAINER", "METER_EXPORT_BILLING_ACCOUNT", "METER_CAPACITY"})
_LISTED = "; docs/configuration.md lists them"
_OURS = (PREFIX.lower(), "meterstorage")
_CONNECTIONS = ("AzureWebJobsStorage", "EventHubConnection", "MeterStorage")
# Members that the Functions host reads of its own connections.
_OF_THE_HOST = {
    f"{connection}__{member}"
    for connection in ("AzureWebJobsStorage", "EventHubConnection")
    for member in (
        "accountName",
        "blobServiceUri",
        "clientId",
        "credential",
        "fullyQualifiedNamespace",
        "managedIdentityResourceId",
        "queueServiceUri",
        "serviceUri",
        "tableServiceUri",
        "tenantId",
    )
} | {"MeterStorage__credential"}
_MUCH_LIKE = 0.85  # of 1: the same


def refuse_unknown(reader: Reader, known: Collection[str]) -> None:
    """Report each name in the environment that looks like a setting and is none."""
    settings = [name for name in known if name.startswith(PREFIX)]
    connections = {name for name in known if name.startswith(_CONNECTIONS)} | _OF_THE_HOST
    for name in sorted(reader.environment.keys() - known - reader.asked - connections):
        whole, _, _ = name.partition("__")  # another member of a connection is not like it
        near = nearest(name, connections - {whole}, 0, _MUCH_LIKE)
        if near is None and name.upper().startswith(PREFIX):
            near = nearest(name, settings, len(PREFIX), 0.6)
        if near or name.lower().startswith(_OURS):
            hint = _LISTED if near is None else f": did you mean {near}?"
            reader.problem(name, f"is not a setting{hint}")


def nearest(name: str, names: Collection[str], prefix: int, cutoff: float) -> str | None:
    """The name that is most like it but for its first letters and any case."""
    text = name[prefix:].lower()
    alike = (each for each in names if _may_be_like(text, each[prefix:].lower(), cutoff))
    by_text = {each[prefix:].lower(): each for each in sorted(alike)}
    if not by_text:
        return None
    # Only where names are alike: a start compares each name of its environment with 30 others.
    from difflib import get_close_matches

    found = get_close_matches(text, by_text, n=1, cutoff=cutoff)
    return by_text[found[0]] if found else None


def _may_be_like(one: str, other: str, cutoff: float) -> bool:
    """Whether they share enough letters for that ratio, wherever these stand."""
    letters = len(one) + len(other)
    if 2 * min(len(one), len(other)) / letters < cutoff:
        return False
    shared = sum(min(one.count(each), other.count(each)) for each in set(one))
    return 2 * shared / letters >= cutoff
