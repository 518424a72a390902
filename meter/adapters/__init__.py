"""The outside world behind the ports: Functions, HTTP, Event Hubs, Table Storage, identity."""
