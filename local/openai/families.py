"""The operations of a model: its family, recognised by its name, decides."""

from collections.abc import Mapping
from enum import StrEnum

from local.openai.call import RESPONSE_OPERATIONS, Operation


class Family(StrEnum):
    """Models with the same operations and the same answer shapes."""

    TEXT = "text"
    EMBEDDING = "embedding"
    GPT_IMAGE = "gpt-image"
    DALL_E = "dall-e"
    TRANSCRIBER = "transcriber"
    WHISPER = "whisper"
    VOICE = "voice"
    TTS = "tts"


# The first part that a name contains decides: gpt-4o-transcribe is not a text model.
_BY_PART = (
    ("text-embedding", Family.EMBEDDING),
    ("gpt-image", Family.GPT_IMAGE),
    ("dall-e", Family.DALL_E),
    ("transcribe", Family.TRANSCRIBER),
    ("whisper", Family.WHISPER),
    ("mini-tts", Family.VOICE),
    ("tts", Family.TTS),
)
_IMAGES = frozenset({Operation.IMAGE_GENERATIONS, Operation.IMAGE_EDITS})
_HEARING = frozenset({Operation.TRANSCRIPTIONS, Operation.TRANSLATIONS})
_OPERATIONS: Mapping[Family, frozenset[Operation]] = {
    Family.TEXT: RESPONSE_OPERATIONS | {Operation.CHAT, Operation.COMPLETIONS},
    Family.EMBEDDING: frozenset({Operation.EMBEDDINGS}),
    Family.GPT_IMAGE: _IMAGES,
    Family.DALL_E: _IMAGES,
    Family.TRANSCRIBER: _HEARING,
    Family.WHISPER: _HEARING,
    Family.VOICE: frozenset({Operation.SPEECH}),
    Family.TTS: frozenset({Operation.SPEECH}),
}


def family_of(model: str) -> Family:
    """The family of a model; text for unrecognised names."""
    return next((family for part, family in _BY_PART if part in model), Family.TEXT)


def can_do(model: str, operation: Operation) -> bool:
    """True when the model answers the operation."""
    return operation in _OPERATIONS[family_of(model)]
