"""Finds the entries of the backends document, wherever it stands."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from meter.config.reader import Reader

SETTING = "METER_BACKENDS"


class Document:
    """The backends document; `place` says in which file it is, for the details of problems."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._text = reader.text(SETTING)
        self._is_inline = self._text.startswith(("{", "["))
        self.place = "" if self._is_inline else f" in {self._text!r}"

    def entries(self) -> Sequence[object]:
        """Its entries; none where it cannot be read. Problems are reported."""
        if not self._text:
            self._problem("is not set: give the backends as JSON, or a file's path")
            return []
        try:
            text = self._text if self._is_inline else Path(self._text).read_text(encoding="utf-8")
        except (OSError, ValueError) as exc:
            reason = f"{type(exc).__name__}{self.place}"
            self._problem("is the path of a file that cannot be read", reason)
            return []
        try:
            document = json.loads(text, object_pairs_hook=self._object)
        except (ValueError, RecursionError) as exc:
            self._problem("is not valid JSON", f"{str(exc)[:200]}{self.place}")
            return []
        entries = document.get("backends") if isinstance(document, dict) else document
        others = sorted(document.keys() - {"backends"}) if isinstance(document, dict) else []
        if others:
            self._problem(f"accepts backends; got {', '.join(others)}", self.place.strip())
        if isinstance(entries, list) and entries:
            return entries
        if others and entries is None:
            return []  # told already
        self._problem('must be {"backends": [...]} with at least one backend', self.place.strip())
        return []

    def _object(self, members: list[tuple[str, object]]) -> dict[str, object]:
        """An object of the document. Of equal keys JSON would keep the last without a word."""
        found = dict(members)
        if len(found) < len(members):
            counts = Counter(key for key, _ in members)
            twice = ", ".join(repr(key)[:100] for key, count in counts.items() if count > 1)
            self._problem("has a key twice in one object", f"{twice}{self.place}")
        return found

    def _problem(self, text: str, detail: str = "") -> None:
        self._reader.problem(SETTING, text, detail)
