"""Other gateways, each started on loopback in front of the same backend."""
