"""Reads settings that are JSON documents: written in the setting itself, or in the file that it names."""

import json
from collections import Counter
from pathlib import Path

from meter.config.reader import Reader

UNREAD = object()


class JsonSetting:
    """A document; `place` says in which file it is, for the details of problems."""

    def __init__(self, reader: Reader, setting: str) -> None:
        self._reader = reader
        self._setting = setting
        self._text = reader.text(setting)
        self._is_inline = self._text.startswith(("{", "["))
        self.place = "" if self._is_inline else f" in {self._text!r}"

    @property
    def is_set(self) -> bool:
        """Whether there is one."""
        return bool(self._text)

    def read(self) -> object:
        """The document; UNREAD where there is none, or none that can be read. Problems are reported."""
        if not self._text:
            return UNREAD
        try:
            text = self._text if self._is_inline else Path(self._text).read_text(encoding="utf-8")
        except (OSError, ValueError) as exc:
            reason = f"{type(exc).__name__}{self.place}"
            self.problem("is the path of a file that cannot be read", reason)
            return UNREAD
        try:
            return json.loads(text, object_pairs_hook=self._object, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as exc:
            self.problem("is not valid JSON", f"{str(exc)[:200]}{self.place}")
            return UNREAD

    def problem(self, text: str, detail: str = "") -> None:
        """Report a problem with it."""
        self._reader.problem(self._setting, text, detail)

    def _object(self, members: list[tuple[str, object]]) -> dict[str, object]:
        """An object of the document. Of equal keys JSON would keep the last without a word."""
        found = dict(members)
        if len(found) < len(members):
            counts = Counter(key for key, _ in members)
            twice = ", ".join(repr(key)[:100] for key, count in counts.items() if count > 1)
            self.problem("has a key twice in one object", f"{twice}{self.place}")
        return found


def _refuse_constant(name: str) -> object:
    """Python reads NaN and infinities; no other parser of JSON does."""
    raise ValueError(f"{name} is not JSON")
