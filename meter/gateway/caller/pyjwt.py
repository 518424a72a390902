"""PyJWT, imported without X.509 certificates, from which it can read keys.

Issuers publish keys as JWK sets, so no token needs a certificate. `cryptography.x509` and what it imports are
2 % of a start's CPU time. PyJWT binds only its name, so that it can load at its first use.
"""

import sys
from importlib.util import LazyLoader, find_spec, module_from_spec


def _import_later(package: str, name: str) -> None:
    """Have the module load when something in it is first used, unless it is loaded already."""
    path = f"{package}.{name}"
    if path in sys.modules or (spec := find_spec(path)) is None or spec.loader is None:
        return
    spec.loader = LazyLoader(spec.loader)
    sys.modules[path] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    # Where `from package import name` finds it, the import system asks the module itself for nothing.
    setattr(sys.modules[package], name, module)


_import_later("cryptography", "x509")

import jwt as jwt  # noqa: E402  # after that
