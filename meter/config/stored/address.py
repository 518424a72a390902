"""Where a document is stored: a file's path, or a blob's address."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from meter.gateway.address import is_allowed_url, is_loopback

EXAMPLE = "https://contoso.blob.core.windows.net/config/backends.json"


class Unread(Struct, frozen=True):
    """Why a document could not be read from where it is stored."""

    reason: str


type Documents = Mapping[str, str | Unread]
"""What was read from paths and addresses, by these."""


class BlobPlace(Struct, frozen=True):
    """A blob's address in its parts."""

    account_url: str
    container: str
    name: str


def is_address(text: str) -> bool:
    """Whether a setting's text is an address, and no path."""
    return text.lower().startswith(("https://", "http://"))


def blob_place(address: str) -> BlobPlace | None:
    """The parts of a blob's address; None where it is none, or has a signature or another query."""
    if not is_allowed_url(address) or "?" in address or "#" in address:
        return None
    parts = urlsplit(address)
    host, names = (parts.hostname or "").lower(), parts.path.strip("/").split("/")
    # Azurite has the account in the path.
    account = names[:1] if is_loopback(host) else []
    container, *name = names[len(account) :] or [""]
    if not name or "" in names or not (account or "blob" in host.split(".")[1:3]):
        return None
    account_url = "/".join([f"{parts.scheme}://{parts.netloc}", *account])
    return BlobPlace(account_url, container, "/".join(name))
