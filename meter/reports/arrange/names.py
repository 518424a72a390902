"""Shows subjects by their names, since nobody knows a GUID by heart; each by a name of its own."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from meter.ledger.keys import escape, unescape
from meter.reports.owners import NO_OWNER, Owners
from meter.reports.query import Grouping
from meter.reports.rows import UsageRow

_SHORTEST = 8


class SubjectNames:
    """What people call the subjects.

    Where several have one name, or a name could be taken for another subject or for a line of the
    report's own, the beginning of the subject is shown as well.
    """

    def __init__(self, owners: Owners) -> None:
        self._owners = owners
        self._shown: dict[str, str] = {}
        self._subjects: set[str] = set()
        self._sharing: defaultdict[str, list[str]] = defaultdict(list)
        for key, owner in owners.by_key.items():
            subject = unescape(key) or ""
            self._subjects.add(subject.casefold())
            self._sharing[owner.name.casefold()].append(subject)

    def of(self, subject: str) -> str:
        """The name of a subject, or the subject itself."""
        shown = self._shown.get(subject)
        if shown is None:
            shown = self._shown[subject] = self._name(subject)
        return shown

    def on(self, row: UsageRow, groups: Sequence[Grouping]) -> UsageRow:
        """The row with the name in place of the subject."""
        if row.others or Grouping.SUBJECT not in groups:
            return row
        names = list(row.names)
        place = groups.index(Grouping.SUBJECT)
        names[place] = self.of(names[place])
        return replace(row, names=tuple(names))

    def _name(self, subject: str) -> str:
        owner = self._owners.by_key.get(escape(subject))
        if owner is None or owner.name == NO_OWNER.name or owner.name == subject:
            return subject
        name, folded = owner.name, owner.name.casefold()
        others = list(self._sharing[folded])
        is_like_a_subject = folded in self._subjects and folded != subject.casefold()
        if len(others) == 1 and not is_like_a_subject and not name.startswith("("):
            return name
        size = _SHORTEST
        while size < len(subject) and sum(map(subject[:size].__eq__, _begin(others, size))) > 1:
            size += _SHORTEST // 2
        return f"{name} ({subject if size >= len(subject) else f'{subject[:size]}…'})"


def _begin(texts: Sequence[str], size: int) -> list[str]:
    return [text[:size] for text in texts]
