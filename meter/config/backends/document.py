"""Finds the entries of the backends document, wherever it stands."""

from collections.abc import Sequence

from meter.config.documents import UNREAD, JsonSetting
from meter.config.reader import Reader

SETTING = "METER_BACKENDS"


class Document:
    """The backends document; `place` says in which file it is, for the details of problems."""

    def __init__(self, reader: Reader) -> None:
        self._setting = JsonSetting(reader, SETTING)
        self.place = self._setting.place

    def entries(self) -> Sequence[object]:
        """Its entries; none where it cannot be read. Problems are reported."""
        if not self._setting.is_set:
            self._setting.problem(
                "is not set: give the backends as JSON, a file's path, or a blob's address"
            )
            return []
        document = self._setting.read()
        if document is UNREAD:
            return []
        entries = document.get("backends") if isinstance(document, dict) else document
        others = sorted(document.keys() - {"backends"}) if isinstance(document, dict) else []
        if others:
            self._problem(f"accepts backends; got {', '.join(others)}")
        if isinstance(entries, list) and entries:
            return entries
        if others and entries is None:
            return []  # told already
        self._problem('must be {"backends": [...]} with at least one backend')
        return []

    def _problem(self, text: str) -> None:
        self._setting.problem(text, self.place.strip())
