"""Counts images and audio by the rule in counting.py."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from local.openai.billing import DURATION, IMAGES, SPEECH, TRANSCRIPT, Bill, make_bill
from local.openai.call import Call
from local.openai.counting import inputs_of, positive, prompt_words, word_count
from local.openai.families import Family, family_of

_TOKENS_AN_UPLOADED_IMAGE = 200
_IMAGE_TOKENS = {"low": 272, "high": 4160}
_USUAL_IMAGE_TOKENS = 1056
_PARTIAL_IMAGE_TOKENS = 100
_MOST_IMAGES = 10
_MOST_PARTIAL_IMAGES = 3
_IMAGE_BYTES_A_TOKEN = 32
_AUDIO_BYTES_A_SECOND = 32_000
_AUDIO_TOKENS_A_SECOND = 10
_SPEECH_CHUNKS = 2
_TOKENS_A_SPEECH_CHUNK = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCount:
    """The cost of one image call: `images` complete ones after `partial_images` partial ones."""

    text_tokens: int
    uploaded_tokens: int
    output_tokens: int
    images: int
    partial_images: int
    image_bytes: int
    partial_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptCount:
    """The cost of transcribing one file; each output token is a word."""

    seconds: int
    text_tokens: int
    audio_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechCount:
    """The cost of speaking one text, and its number of audio chunks."""

    input_tokens: int
    output_tokens: int
    chunks: int


def count_images(call: Call, *, is_streamed: bool) -> ImageCount:
    """Counts a generation or an edit of images by the rule."""
    an_image = _IMAGE_TOKENS.get(str(call.body.get("quality")), _USUAL_IMAGE_TOKENS)
    images = 1 if is_streamed else min(positive(call.body.get("n")) or 1, _MOST_IMAGES)
    partial_images = _partial_images(call.body) if is_streamed else 0
    return ImageCount(
        text_tokens=prompt_words(call.operation, call.body),
        uploaded_tokens=_TOKENS_AN_UPLOADED_IMAGE * _uploaded_images(call),
        output_tokens=an_image * images + _PARTIAL_IMAGE_TOKENS * partial_images,
        images=images,
        partial_images=partial_images,
        image_bytes=_IMAGE_BYTES_A_TOKEN * an_image,
        partial_bytes=_IMAGE_BYTES_A_TOKEN * _PARTIAL_IMAGE_TOKENS,
    )


def count_transcript(call: Call) -> TranscriptCount:
    """Counts a transcription or a translation of audio by the rule."""
    size = sum(upload.size for upload in call.uploads if upload.name == "file")
    seconds = size // _AUDIO_BYTES_A_SECOND + 1
    text_tokens = prompt_words(call.operation, call.body)
    audio_tokens = _AUDIO_TOKENS_A_SECOND * seconds
    return TranscriptCount(
        seconds=seconds,
        text_tokens=text_tokens,
        audio_tokens=audio_tokens,
        output_tokens=5 + (text_tokens + audio_tokens) % 11,
    )


def count_speech(call: Call) -> SpeechCount:
    """Counts the speech for a text by the rule."""
    chunks = _SPEECH_CHUNKS + word_count(inputs_of(call.body.get("input")))
    return SpeechCount(
        input_tokens=prompt_words(call.operation, call.body),
        output_tokens=_TOKENS_A_SPEECH_CHUNK * chunks,
        chunks=chunks,
    )


def image_bill(call: Call, count: ImageCount) -> Bill:
    """The bill of a gpt-image model; all output is image, unless the call asked for a split."""
    rule = {
        "prompt_tokens": count.text_tokens + count.uploaded_tokens,
        "image_prompt_tokens": count.uploaded_tokens,
        "completion_tokens": count.output_tokens,
    }
    return make_bill(IMAGES, rule, call.asked, output_kind="image_completion_tokens")


def transcript_bill(call: Call, count: TranscriptCount) -> Bill:
    """The bill of a transcription: in seconds with Whisper, or when the call asked for seconds."""
    if family_of(call.model) is Family.WHISPER or "seconds" in call.asked.values:
        return _typed("duration", make_bill(DURATION, {"seconds": count.seconds}, call.asked))
    rule = {
        "prompt_tokens": count.text_tokens + count.audio_tokens,
        "audio_prompt_tokens": count.audio_tokens,
        "completion_tokens": count.output_tokens,
    }
    return _typed("tokens", make_bill(TRANSCRIPT, rule, call.asked))


def streamed_speech_bill(call: Call, count: SpeechCount) -> Bill:
    """The bill of speech as events; all output is audio."""
    rule = {"prompt_tokens": count.input_tokens, "completion_tokens": count.output_tokens}
    return make_bill(SPEECH, rule, call.asked, output_kind="audio_completion_tokens")


def spoken_bill(call: Call, count: SpeechCount) -> Bill:
    """The bill of speech as bytes, of which only the request tells something: its characters."""
    has_tokens = family_of(call.model) is Family.VOICE
    usage = streamed_speech_bill(call, count).usage if has_tokens else None
    return Bill(usage=usage, counts={"characters": len(str(call.body.get("input")))})


def _typed(kind: str, bill: Bill) -> Bill:
    return replace(bill, usage={"type": kind, **(bill.usage or {})})


def _partial_images(body: Mapping[str, object]) -> int:
    asked = body.get("partial_images")
    return max(0, min(asked, _MOST_PARTIAL_IMAGES)) if isinstance(asked, int) else 1


def _uploaded_images(call: Call) -> int:
    given = call.body.get("images", call.body.get("image", []))
    in_json = len(given) if isinstance(given, list) else 1
    return in_json + sum(upload.name == "image" for upload in call.uploads)
