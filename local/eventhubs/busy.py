"""Answers sends with server-busy on demand, which no proxy can do from outside."""


class BusySends:
    """The next so many sends are refused with `com.microsoft:server-busy`."""

    def __init__(self) -> None:
        self._left = 0

    def refuse(self, _hub: str, _partition_id: str) -> bool:
        """Whether this send is refused; it is then counted."""
        is_refused = self._left > 0
        self._left -= is_refused
        return is_refused

    def ask(self, sends: int) -> None:
        """Refuse the next so many sends; 0 takes back what was asked before."""
        self._left = sends
