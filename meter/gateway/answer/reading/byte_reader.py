"""Follows an answer that is no event stream, as its bytes pass."""

from msgspec import Struct, field

from meter.gateway.answer.reading.members import MemberReader
from meter.gateway.answer.seen import SeenContent
from meter.gateway.answer.usage import NOTHING_READ, Reading, read_document


class ByteReader(Struct):
    """Follows audio, JSON too long to hold, encoded bytes.

    Its last byte is held until the usage event is safe, so no caller has a whole answer that is not
    counted. The usage of JSON is read as it passes.
    """

    reports_usage: bool
    is_over: bool = False
    is_complete: bool = False
    has_error: bool = False
    is_broken: bool = False
    is_cut_short: bool = False
    takes_comments: bool = False
    seen: SeenContent = field(default_factory=SeenContent)
    _held: bytes = b""
    _members: MemberReader = field(default_factory=MemberReader)

    @property
    def reading(self) -> Reading:
        """What the answer has reported so far."""
        return read_document(self._members.document) if self.reports_usage else NOTHING_READ

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes; return those to relay now."""
        if not chunk:
            return b""
        if self.reports_usage:
            self._members.feed(chunk)
        relayed, self._held = self._held + chunk[:-1], chunk[-1:]
        return relayed

    def take_held(self) -> bytes:
        """Nothing: there is no closing frame."""
        return b""

    def drop_rest(self) -> None:
        """At a break: the last byte has nothing to say."""

    def take_rest(self) -> bytes:
        """The last byte."""
        rest, self._held = self._held, b""
        return rest

    def cut_notice(self) -> bytes:
        """Nothing: a cut answer is short of its length or its last chunk."""
        return b""
