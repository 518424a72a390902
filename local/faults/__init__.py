"""A loopback proxy in front of any service that breaks connections on purpose, for fault tests.

rules    the faults, as values; reading them from JSON
link     one connection through the proxy: bytes delayed, slowed, held back, cut off
tcp      the proxy of any protocol
http     the proxy of HTTP, which numbers requests
control  changes the rules of a running proxy over a loopback port
"""

from local.faults.http import HttpFaultProxy
from local.faults.rules import Ending, Flow, RequestFault, Rules
from local.faults.tcp import FaultProxy

__all__ = ["Ending", "FaultProxy", "Flow", "HttpFaultProxy", "RequestFault", "Rules"]
