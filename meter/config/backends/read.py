"""Reads the backends document: the backends, with or without the keys to them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from meter.config.backends.document import SETTING, Document
from meter.config.backends.entry import BackendReader
from meter.config.reader import Reader
from meter.config.stored.address import Documents, is_address
from meter.errors import InvalidSettings
from meter.gateway.backend import Backend, BackendAuth


def read_backends(
    reader: Reader,
) -> tuple[tuple[Backend, ...], dict[str, BackendAuth]]:
    """The backends, and by name how the gateway authenticates to each. Problems are reported."""
    readers = _backend_readers(reader)
    backends = _backends(reader, readers)
    auth = {backend.name: each.auth() for backend, each in zip(backends, readers, strict=True)}
    return backends, auth


def read_accounts(reader: Reader) -> tuple[Backend, ...]:
    """The backends as accounts in Azure, without their keys. Problems are reported."""
    backends = _backends(reader, _backend_readers(reader))
    first_of_url: dict[str, Backend] = {}
    for backend in backends:
        first = first_of_url.setdefault(backend.url.lower(), backend)
        if (first.resource_id or "").lower() != (backend.resource_id or "").lower():
            # Calls to one of them would look like calls of strangers.
            reader.problem(
                SETTING,
                "needs one resource_id, or none, for all backends of one url",
                f"backends {first.name!r} and {backend.name!r}",
            )
    if backends and all(backend.resource_id is None for backend in backends):
        reader.problem(SETTING, "gives no backend a resource_id, so there is no account to query")
    return backends


def load_backends(
    environment: Mapping[str, str], documents: Documents
) -> tuple[tuple[Backend, ...], dict[str, BackendAuth]]:
    """The same, where they are all that is wanted. Raises InvalidSettings."""
    reader = Reader(environment, documents)
    found = read_backends(reader)
    if reader.problems:
        raise InvalidSettings(reader.problems)
    return found


def load_known_backends(
    environment: Mapping[str, str], documents: Documents = MappingProxyType({})
) -> tuple[Backend, ...]:
    """The backends without their keys; none where there is no setting. Raises InvalidSettings."""
    reader = Reader(environment, documents)
    backends = _backends(reader, _backend_readers(reader)) if reader.text(SETTING) else ()
    if reader.problems:
        raise InvalidSettings(reader.problems)
    return backends


def _backends(reader: Reader, readers: Sequence[BackendReader]) -> tuple[Backend, ...]:
    backends = tuple(each.backend() for each in readers)
    names: set[str] = set()
    for backend in backends:
        if backend.name in names:
            reader.problem(SETTING, "has a name twice", f"backend {backend.name!r}")
        names.add(backend.name)
    return backends


def named_key_settings(reader: Reader) -> frozenset[str]:
    """The settings that the document names for keys, as far as it can be read."""
    location = reader.environment.get(SETTING, "").strip()
    if is_address(location) and not isinstance(reader.documents.get(location), str):
        # Its names are not known here; the counting of calls must not stop for that.
        return frozenset(name for name in reader.environment if name.endswith("_KEY"))
    entries = Document(Reader(reader.environment, reader.documents)).entries()
    auths = [entry.get("auth") for entry in entries if isinstance(entry, dict)]
    names = [auth.get("setting") for auth in auths if isinstance(auth, dict)]
    return frozenset(name for name in names if isinstance(name, str))


def _backend_readers(reader: Reader) -> list[BackendReader]:
    document = Document(reader)
    readers = []
    for index, entry in enumerate(document.entries()):
        if isinstance(entry, dict):
            readers.append(BackendReader(reader, document.place, index, entry))
        else:
            place = f"backend '#{index + 1}'{document.place}"
            reader.problem(SETTING, "has an entry that is not an object", place)
    return readers
