"""What all servers of a run share: the local stack, the backend, callers' tokens, settings."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.gateway.content import Deployment
from bench.servers import OTHER_CORE, start
from local.child import free_ports
from local.issuer.keys import KeyRing
from local.issuer.tokens import mint
from local.plan import AUDIENCE, Plan, make_plan
from local.stack import Stack

BACKENDS = 30
USUAL_BACKENDS = 2
SUBJECTS = 100
TOKEN_SECONDS = 6 * 3_600
KEY = "k" * 32


@dataclass(frozen=True)
class Ground:
    """A stack and a backend that listens on many ports, plain and with TLS, on the other core."""

    plan: Plan
    ports: Sequence[int]
    tls_ports: Sequence[int]
    certificate: Path
    backend_pid: int

    @cached_property
    def tokens(self) -> Sequence[str]:
        """One token for each usual subject."""
        return self.tokens_of(SUBJECTS)

    def tokens_of(self, subjects: int) -> list[str]:
        """Tokens that last for the whole run."""
        ring = KeyRing(self.plan.state)
        return [
            mint(
                ring,
                issuer=self.plan.issuer,
                audience=AUDIENCE,
                subject=f"subject-{number:05}",
                expires_in_seconds=TOKEN_SECONDS,
            )
            for number in range(subjects)
        ]

    def urls(self, *, tls: bool = False, backends: int = USUAL_BACKENDS) -> list[str]:
        """Addresses of so many backends."""
        scheme, ports = ("https", self.tls_ports) if tls else ("http", self.ports)
        return [f"{scheme}://127.0.0.1:{port}" for port in ports[:backends]]

    def settings(self, *, tls: bool = False, backends: int = USUAL_BACKENDS) -> dict[str, str]:
        """The front door's settings, and what the bare relay needs to know."""
        entries = [
            {
                "name": f"backend-{number}",
                "url": url,
                "deployments": {each.value: each.value for each in Deployment},
                "auth": {"kind": "api-key", "setting": "BACKEND_KEY"},
            }
            for number, url in enumerate(self.urls(tls=tls, backends=backends))
        ]
        return {
            **self.plan.settings(),
            "METER_BACKENDS": json.dumps({"backends": entries}),
            "BACKEND_KEY": KEY,
            "BACKEND_URLS": " ".join(self.urls(tls=tls, backends=backends)),
            "SSL_CERT_FILE": str(self.certificate),
        }


@asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """Start all of it; this process, which is also the load, runs on the other core, too."""
    os.sched_setaffinity(0, {OTHER_CORE})
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(Path(folder), port=0, environment=_without_meter())
        stack = Stack(plan, host=None)  # an aggregator would take the hub's core
        await stack.start()
        try:
            ports = free_ports(BACKENDS + USUAL_BACKENDS)
            plain, secure = ports[:BACKENDS], ports[BACKENDS:]
            certificate = _certificate(Path(folder))
            arguments = [sys.executable, "-m", "bench.gateway.mock", "--ports", *map(str, plain)]
            arguments += ["--tls-ports", *map(str, secure), "--certificate", str(certificate)]
            backend = await start(arguments, {}, cpu=OTHER_CORE)
            try:
                async with asyncio.timeout(60):
                    assert backend.stdout is not None
                    assert await backend.stdout.readline() == b"ready\n"
                yield Ground(
                    plan=plan,
                    ports=plain,
                    tls_ports=secure,
                    certificate=certificate,
                    backend_pid=backend.pid,
                )
            finally:
                backend.terminate()
                await backend.wait()
        finally:
            await stack.stop()


def _without_meter() -> Mapping[str, str]:
    """The environment without settings of the developer's own front door."""
    return {name: value for name, value in os.environ.items() if not name.startswith("METER_")}


def _certificate(folder: Path) -> Path:
    """A self-signed certificate of the loopback address, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(addresses, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "backend.pem"
    plain = serialization.NoEncryption()
    pkcs8 = serialization.PrivateFormat.PKCS8
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, pkcs8, plain)
    )
    return path
