"""Runs a command whose arguments are read, and says in a line why it failed."""

import argparse
import logging
import sys

from meter.adapters.clock import SystemClock
from meter.errors import (
    AccessDenied,
    InvalidInput,
    InvalidSettings,
    MeterError,
    NotSignedIn,
    StorageUnavailable,
)
from meter.ports import Clock
from meter.terminal import printable


def run(options: argparse.Namespace, clock: Clock | None = None) -> int:
    """Run it. Returns its exit code, or 1 after the reason of its failure."""
    options.clock = clock or SystemClock()
    # Failures are reported below; the SDKs' retries are not for a terminal.
    logging.getLogger("azure").setLevel(logging.ERROR)
    try:
        return int(options.run(options))
    except BrokenPipeError:
        raise  # no failure: what reads the output has enough
    except (InvalidSettings, InvalidInput) as exc:
        for problem in exc.problems:
            print(f"error: {printable(problem)}", file=sys.stderr)
    except (MeterError, OSError) as exc:
        print(f"error: {printable(_reason(exc, options))}", file=sys.stderr)
    return 1


def _reason(exc: MeterError | OSError, options: argparse.Namespace) -> str:
    is_writing = getattr(options, "writes", False) and not getattr(options, "dry_run", False)
    role = f"Storage Table Data {'Contributor' if is_writing else 'Reader'} on the data account"
    match exc:
        case NotSignedIn():
            return (
                f"not signed in to Azure: run `az login`, or set MeterStorage; the role is {role}"
            )
        case AccessDenied(code="AuthorizationPermissionMismatch"):
            return (
                f"signed in to Azure, but without the role {role}; a new one takes minutes: {exc}"
            )
        case AccessDenied():
            return f"table storage refused the key, the sign-in or this network: {exc}"
        case StorageUnavailable():
            return f"table storage did not answer: {exc}"
        case OSError(filename=str(name), strerror=str(reason)):
            return f"{name}: {reason}"
        case _:
            return str(exc)
