"""Keeps what a stream has said so far, so that its tokens can be estimated if it never reports them."""

from collections.abc import Sequence

from msgspec import Struct, field

from meter.gateway.answer.reading.members import decoded_json
from meter.patterns import lazy_pattern

MAX_SEEN_BYTES = 1_048_576
MAX_UNREAD_BYTES = 65_536
_FRAME_BYTES = 64  # what a frame takes besides its data
_TYPE_WITHIN = 200

# Text, reasoning, refusals, calls of tools and functions; transcripts of spoken answers.
_TEXT = lazy_pattern(
    rb'"(?:content|text|reasoning_content|reasoning|refusal|name|arguments|transcript|delta)"'
    rb'[ \t]*:[ \t]*"((?:[^"\\]++|\\.)++)"'
)
_SOUND = lazy_pattern(rb'"(?:data|audio|delta)"[ \t]*:[ \t]*"[A-Za-z0-9+/=_-]')
_SEVERAL = (b'"tool_calls"', b'"function_call"', b'"reasoning', b'"audio"', b'"refusal":"')
_TYPED = lazy_pattern(
    rb'"type"[ \t]*:[ \t]*"((?:response\.|image_|transcript\.|speech\.)[a-z0-9_.]*)"'
)
_SOUND_TYPES = frozenset(
    {b"response.audio.delta", b"response.output_audio.delta", b"speech.audio.delta"}
)


class SeenContent(Struct):
    """The content of an answer so far. A frame is about one token.

    `frames` had text, `sounds` only audio, which no tokenizer counts.
    """

    frames: int = 0
    sounds: int = 0
    _texts: bytearray = field(default_factory=bytearray)  # pieces of JSON strings, one per line

    def add(self, data: bytes) -> None:
        """Keep a frame's pieces of text, still as JSON strings, while there is room."""
        typed = _TYPED.search(data, 0, _TYPE_WITHIN)
        if typed is not None and not typed[1].endswith(b".delta"):
            return
        is_sound = typed is not None and typed[1] in _SOUND_TYPES
        texts = [] if is_sound else _texts(data)
        if texts:
            self.frames += 1
        elif _SOUND.search(data):
            self.sounds += 1
        for text in texts:
            if len(self._texts) + len(text) < MAX_SEEN_BYTES:
                self._texts += text + b"\n"

    @property
    def is_empty(self) -> bool:
        """Whether the answer has said nothing."""
        return not (self.frames or self.sounds)

    def text(self) -> str:
        """The text."""
        return "".join(_string(text) for text in bytes(self._texts).split(b"\n"))


class UnreadContent(Struct):
    """Frames whose texts are read once they are asked for, or their bytes are many.

    Of most streams nobody asks: they report their tokens themselves.
    """

    _content: SeenContent = field(default_factory=SeenContent)
    _frames: list[bytes] = field(default_factory=list)
    _bytes: int = 0

    def add(self, data: bytes) -> None:
        """Keep a frame's data."""
        self._frames.append(data)
        self._bytes += len(data) + _FRAME_BYTES
        if self._bytes > MAX_UNREAD_BYTES:
            self.read()

    def add_all(self, datas: Sequence[bytes]) -> None:
        """Keep the data of some frames."""
        self._frames += datas
        self._bytes += sum(map(len, datas)) + _FRAME_BYTES * len(datas)
        if self._bytes > MAX_UNREAD_BYTES:
            self.read()

    def read(self) -> SeenContent:
        """The content of all frames so far."""
        for data in self._frames:
            self._content.add(data)
        self._frames.clear()
        self._bytes = 0
        return self._content

    @property
    def is_empty(self) -> bool:
        """Whether they have said nothing: no more of them are read than it takes to know."""
        while self._content.is_empty and self._frames:
            data = self._frames.pop(0)
            self._bytes -= len(data) + _FRAME_BYTES
            self._content.add(data)
        return self._content.is_empty


def _texts(data: bytes) -> list[bytes]:
    """The pieces of text in a frame: mostly one."""
    first = _TEXT.search(data)
    if first is None:
        return []
    find = data.find  # `in` makes and drops an exception: five times as slow
    if data.count(b'"index"') > 1 or max(map(find, _SEVERAL)) >= 0:
        # Some servers name the same piece of reasoning twice.
        return list(dict.fromkeys(_TEXT.findall(data, first.start())))
    return [first[1]]


def is_typed(data: bytes) -> bool:
    """Whether a frame is of an API whose events have a type: Responses, images, audio."""
    return _TYPED.search(data, 0, _TYPE_WITHIN) is not None


def _string(text: bytes) -> str:
    return str(decoded_json(b'"%b"' % text) or "")
