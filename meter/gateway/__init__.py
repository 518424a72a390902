"""The front door's core: authenticate, route, choose a backend, forward, relay, meter."""
