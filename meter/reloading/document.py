"""A document as it was read, and where documents are read from."""

from typing import Protocol

from msgspec import Struct

from meter.errors import MeterError


class DocumentUnread(MeterError):
    """A document cannot be read now: it is gone, forbidden, too large, or its place does not answer."""


class Document(Struct, frozen=True):
    """A text, and the version that its place gave it."""

    text: str
    version: str


class DocumentSource(Protocol):
    """One file or blob."""

    @property
    def location(self) -> str:
        """Its path or address, as the settings have it."""

    async def read(self, known: str | None) -> Document | None:
        """The document; None where `known` is its version still. Raises DocumentUnread."""
