"""Answers sends with server-busy on demand, which a proxy cannot do."""


class BusySends:
    """Refuses a number of sends with `com.microsoft:server-busy`."""

    def __init__(self) -> None:
        self._left = 0

    def refuse(self, _hub: str, _partition_id: str) -> bool:
        """Whether this send is refused; each refusal is counted."""
        is_refused = self._left > 0
        self._left -= is_refused
        return is_refused

    def ask(self, sends: int) -> None:
        """Refuse the next `sends` sends; 0 cancels an earlier request."""
        self._left = sends
