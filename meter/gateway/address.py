"""Addresses that may receive credentials or supply keys: https, and plain http on loopback."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from meter.patterns import lazy_pattern

_HOST = lazy_pattern(r"[A-Za-z0-9._:-]+", re.ASCII)


def is_allowed_url(url: str) -> bool:
    """Whether a URL may be a backend's or supply keys: https, or plain http on loopback."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if parts.username or parts.password or not _HOST.fullmatch(parts.hostname or ""):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
