"""Reads settings that are JSON documents: in the setting itself, or in the file or blob that it names."""

import json
from collections import Counter
from pathlib import Path

from meter.config.reader import Reader
from meter.config.stored.address import EXAMPLE, blob_place, is_address

UNREAD = object()


class JsonSetting:
    """A document; `place` says in which file it is, for the details of problems."""

    def __init__(self, reader: Reader, setting: str) -> None:
        self._reader = reader
        self._setting = setting
        self._text = reader.text(setting)
        self._is_inline = self._text.startswith(("{", "["))
        self.place = "" if self._is_inline else f" in {_shown(self._text)}"

    @property
    def is_set(self) -> bool:
        """Whether there is one."""
        return bool(self._text)

    def read(self) -> object:
        """The document; UNREAD where there is none, or none that can be read. Problems are reported."""
        if not self._text:
            return UNREAD
        text = self._text if self._is_inline else self._stored()
        if text is None:
            return UNREAD
        try:
            return json.loads(text, object_pairs_hook=self._object, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as exc:
            self.problem("is not valid JSON", f"{str(exc)[:200]}{self.place}")
            return UNREAD

    def _stored(self) -> str | None:
        """The text of the file or blob, which may have been read already; None where it cannot be read."""
        found = self._reader.documents.get(self._text)
        if isinstance(found, str):
            return found
        if is_address(self._text):
            if blob_place(self._text) is None:
                self.problem(f"must be a blob's address without a signature, for example {EXAMPLE}")
            else:
                reason = found.reason if found is not None else "not read yet"
                self.problem(
                    "is the address of a blob that cannot be read", f"{reason}{self.place}"
                )
            return None
        if found is not None:
            self.problem("is the path of a file that cannot be read", f"{found.reason}{self.place}")
            return None
        try:
            return Path(self._text).read_text(encoding="utf-8")
        except (OSError, ValueError) as exc:
            reason = f"{type(exc).__name__}{self.place}"
            self.problem("is the path of a file that cannot be read", reason)
            return None

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


def _shown(location: str) -> str:
    """A path, or an address without what may be a signature."""
    return repr(location.partition("?")[0] if is_address(location) else location)
