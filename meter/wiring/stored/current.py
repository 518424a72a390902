"""The settings in the environment, for commands, with what stands in the blobs that they name.

What reads them is imported when a command runs, so that `--help` answers at once.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meter.config.prices import PriceSettings
    from meter.config.stored.address import Documents
    from meter.config.values import ReconcileSettings, Settings
    from meter.gateway.backend import Backend


def current_settings(documents: "Documents") -> "Settings":
    """The settings in the environment. Raises InvalidSettings with every problem."""
    from meter.config.environment import load_settings

    return load_settings(os.environ, documents)


def stored_documents() -> "Documents":
    """What stands in the blobs that the environment names."""
    from meter.wiring.stored.documents import current_documents

    return current_documents(os.environ)


def current_price_settings() -> "PriceSettings":
    """Which price book the environment names."""
    from meter.config.prices import load_price_settings

    return load_price_settings(os.environ)


def current_reconcile_settings() -> "ReconcileSettings":
    """The settings that a reconciliation needs. Raises InvalidSettings."""
    from meter.config.environment import load_reconcile_settings

    return load_reconcile_settings(os.environ, stored_documents())


def known_backends() -> "tuple[Backend, ...]":
    """The backends in the environment, if it has any. Raises InvalidSettings with every problem."""
    from meter.config.backends.read import load_known_backends

    return load_known_backends(os.environ, stored_documents())
