"""The gateways that are measured on request, by the name that asks for them."""

from collections.abc import Callable, Mapping

from bench.gateway.servers import Spec
from bench.peers.litellm import litellm
from bench.peers.nginx import nginx
from bench.peers.portkey import portkey
from bench.peers.powerproxy import powerproxy

PEERS: Mapping[str, Callable[[], Spec]] = {
    "portkey": portkey,
    "powerproxy": powerproxy,
    "litellm": litellm,
    "nginx": nginx,
}
