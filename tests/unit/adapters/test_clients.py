"""The SDKs' clients as they are built."""

import ssl

import certifi

from meter.adapters.clients import authorities, hub_trust


def test_the_hubs_certificate_and_name_are_verified_and_its_authorities_read_once() -> None:
    """One context serves all connections; it trusts whom the SDK trusts by itself."""
    trust = hub_trust()

    assert hub_trust() is trust
    assert (trust.verify_mode, trust.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert trust.cert_store_stats()["x509_ca"] > 100


def test_the_authorities_are_certifis() -> None:
    """They are found without its function, which imports more."""
    assert authorities() == certifi.where()
