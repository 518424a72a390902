"""Recognises the frames that most of a stream consists of: the next piece of text, and nothing else.

All that is read of a stream besides its text stands behind a few words: usage, errors, finish reasons,
the names of events. A frame without them need not be read. Looking for them takes about a tenth of the
time that reading takes. A frame that is not recognised costs that time, and never a count.

Nearly every frame is the one before it but for its text. Once one was recognised, the bytes around its text
are kept (`Likeness`), and the next is compared with them: 8 % of a stream's bytecode instructions, and 35 %
of the time that reading a padded chunk takes.

Frames that come together are looked at together (`plain_run`): a dozen of them takes as long as two.
"""

import re

from msgspec import Struct, field

from meter.patterns import lazy_pattern

_USAGE, _NO_USAGE = b'"usage"', b'"usage":null'
_REASON, _NO_REASON = b'"finish_reason"', b'"finish_reason":null'
_INDEX, _FIRST_INDEX = b'"index"', b'"index":0'
_CHUNK_START, _FRAME_END = b"data: {", b"\n\n"
_MOST_OTHERS = 3  # a finish reason, usage, `[DONE]`
_KIND = rb"response\.(?!error)[a-z_.]+\.delta"
_DELTA = lazy_pattern(
    rb"(?:event: " + _KIND + rb'\n)?data: (\{"type":"' + _KIND + rb'"[^\r\n]*+)\n\n'
)
# What varies from one to the next. None of it may be, or end in, a word that frames are read for.
_TEXT = rb'(?:[^"\\\x00-\x1f]++|\\[^\x00-\x1f])++'
_PADDING = rb"[A-Za-z0-9+/=_-]*+"
_NUMBER = rb"[0-9]++"
_WORDS = (
    *(b"usage", b"index", b"finish_reason", b"model", b"service_tier", b"background"),
    *(b"choices", b"encrypted_content", b"response", b"type"),
)
_NO_WORD = rb"(?<!rror)" + b"".join(rb'(?<!"%b)' % word for word in _WORDS)
_VARYING = lazy_pattern(
    rb'"(?:(?:content|text|arguments|delta)":"(?P<text>%b)"' % _TEXT
    + rb'|obfuscation":"(?P<padding>%b)"' % _PADDING
    + rb'|sequence_number":(?P<number>%b)[,}])' % _NUMBER
)
_OTHERS = {
    "text": lazy_pattern(_TEXT + _NO_WORD),
    "padding": lazy_pattern(_PADDING + _NO_WORD),
    "number": lazy_pattern(_NUMBER),
}


class Likeness(Struct):
    """The bytes around what varies in a frame that said nothing but text; none before there was one.

    Besides the text that is the number of a response's event, and the padding by which Azure hides how long
    the text is.
    """

    _pieces: list[tuple[bytes, re.Pattern[bytes]]] = field(default_factory=list)
    _end: bytes = b""
    _data_at: int = 0

    def learn(self, frame: bytes, data: bytes) -> None:
        """Keep what is around the varying parts of a frame that was recognised, and where its data begin."""
        self._pieces, at = [], 0
        for found in _VARYING.finditer(frame):
            kind = str(found.lastgroup)
            self._pieces.append((frame[at : found.start(kind)], _OTHERS[kind]))
            at = found.end(kind)
        self._end, self._data_at = frame[at:], len(frame) - len(data) - len(_FRAME_END)

    def data_of(self, frame: bytes) -> bytes | None:
        """The data of a frame that differs from that one in those parts alone; None for all others."""
        at = 0
        for before, other in self._pieces:
            if not frame.startswith(before, at):
                return None
            found = other.match(frame, at + len(before))
            if found is None:
                return None
            at = found.end()
        return frame[self._data_at : -2] if at and frame[at:] == self._end else None


def plain_chunk(frame: bytes) -> bytes | None:
    """The data of a chunk of chat or completions that says nothing but text; None for all others."""
    find, count = frame.find, frame.count  # `in` makes and drops an exception: five times as slow
    is_plain = (
        frame.startswith(_CHUNK_START)
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


def plain_run(chunk: bytes) -> tuple[list[bytes], int]:
    """The data of the plain chunks that the frames at a chunk's beginning are, and how many bytes these have.

    The frames that end a stream are no plain ones: so many at its end are left out.
    """
    end = chunk.rfind(_FRAME_END) + 2
    for _ in range(_MOST_OTHERS + 1):
        if end < len(_CHUNK_START):
            break
        if found := _plain_chunks(chunk, end):
            return found, end
        end = chunk.rfind(_FRAME_END, 0, end - 2) + 2
    return [], 0


def plain_chunks(chunk: bytes) -> list[bytes]:
    """The data of the plain chunks that all frames of a chunk are; none if one is not, or not whole."""
    return _plain_chunks(chunk, len(chunk)) if chunk.endswith(_FRAME_END) else []


def _plain_chunks(chunk: bytes, end: int) -> list[bytes]:
    """Likewise of those before `end`, which is behind a frame's. As `plain_chunk` says, of each."""
    text = chunk[6 : end - 2]
    find, count = text.find, text.count
    are_plain = (
        chunk.startswith(_CHUNK_START)
        and count(b"\n") == 2 * count(b"\n\ndata: {")
        and find(b"\r") < 0
        and find(b'rror"') < 0
        and count(_REASON) == count(_NO_REASON)
        and count(_INDEX) == count(_FIRST_INDEX)
        and count(_USAGE) == count(_NO_USAGE)
    )
    datas = text.split(b"\n\ndata: ") if are_plain else [b""]
    return datas if min([data.find(b'"choices"') for data in datas]) > 0 else []


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
