"""Recognises the frames that most of a stream consists of: the next piece of text, and nothing else.

All that is read of a stream besides its text stands behind a few words: usage, errors, finish reasons,
the names of events. A frame without them need not be read. Looking for them takes about a tenth of the
time that reading takes. A frame that is not recognised costs that time, and never a count.

Nearly every chunk of chat is the one before it but for its text. Once one was recognised, the bytes around
its text are kept (`Likeness`), and the next is compared with them: 8 % of a stream's bytecode instructions.
"""

from dataclasses import dataclass

from meter.patterns import lazy_pattern

_USAGE, _NO_USAGE = b'"usage"', b'"usage":null'
_REASON, _NO_REASON = b'"finish_reason"', b'"finish_reason":null'
_INDEX, _FIRST_INDEX = b'"index"', b'"index":0'
_KIND = rb"response\.(?!error)[a-z_.]+\.delta"
_DELTA = lazy_pattern(
    rb"(?:event: " + _KIND + rb'\n)?data: (\{"type":"' + _KIND + rb'"[^\r\n]*+)\n\n'
)
_TEXT = lazy_pattern(rb'"content":"([^"\\\x00-\x1f]+)"')
# None that would be a word that frames are read for.
_OTHER_TEXT = lazy_pattern(
    rb'(?!(?:usage|index|finish_reason|model|service_tier)")[^"\\\x00-\x1f]++(?<!rror)'
)


@dataclass(slots=True)
class Likeness:
    """The bytes around the text of a chunk that said nothing else; none before there was one."""

    _before: bytes = b""
    _after: bytes = b""

    def learn(self, frame: bytes) -> None:
        """Keep what is around the text of a chunk that was recognised, if it has just one."""
        found = _TEXT.search(frame)
        if found is not None:
            self._before, self._after = frame[: found.start(1)], frame[found.end(1) :]

    def is_shared(self, frame: bytes) -> bool:
        """Whether a frame is that chunk with another text: a string without escapes."""
        before = self._before
        if not before or not frame.startswith(before):
            return False
        text = _OTHER_TEXT.match(frame, len(before))
        return text is not None and frame[text.end() :] == self._after


def plain_chunk(frame: bytes) -> bytes | None:
    """The data of a chunk of chat or completions that says nothing but text; None for all others."""
    find, count = frame.find, frame.count  # `in` makes and drops an exception: five times as slow
    is_plain = (
        frame.startswith(b"data: {")
        and find(b"\n") == len(frame) - 2
        and frame.endswith(b"\n\n")
        and find(b"\r") < 0
        and find(b'"choices"') > 0
        and find(b'rror"') < 0
        and count(_REASON) == count(_NO_REASON)
        and count(_INDEX) == count(_FIRST_INDEX)
        and count(_USAGE) == count(_NO_USAGE)
    )
    return frame[6:-2] if is_plain else None


def plain_delta(frame: bytes) -> bytes | None:
    """The data of an event of the Responses API that adds to its output; None for all others."""
    found, find = _DELTA.fullmatch(frame), frame.find
    is_plain = (
        found is not None
        and find(_USAGE) < 0
        and find(b'"background"') < 0
        and find(b'"encrypted_content"') < 0
        and find(b".completed") < 0
        and find(b".incomplete") < 0
        and find(b".failed") < 0
        and find(b".cancelled") < 0
        and find(b".done") < 0
    )
    return found[1] if found is not None and is_plain else None
