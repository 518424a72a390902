"""The models that Azure's meters name, by the words that are left once the shared ones are taken out.

Names are those that answers carry: with the version's date where the meter has one. A date, `1120` or
`05282026`, counts only for a version that is listed here. Sources: Azure's retail prices of 2026-08-11 and
the model versions of "Foundry Models sold by Azure", learn.microsoft.com.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from meter.reports.pricing.book import ANY
from meter.reports.pricing.kinds import Kind
from meter.reports.pricing.meters.meter import Reason, Skipped
from meter.reports.pricing.meters.words import MODALITIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A model, and what its meters charge for unless they say more.

    `modality` is empty where each meter must name its own; `direction` is the only one that the model
    has. A `kind` is not charged by direction, cache, context or tier; `tier` is a word of its name.
    """

    model: str
    modality: str = "text"
    direction: str = ""
    kind: Kind | None = None
    tier: str = ""


_SPELLINGS: Mapping[str, str] = {
    **MODALITIES,
    "mn": "mini",
    "rt": "realtime",
    "rtime": "realtime",
    "prvw": "preview",
    "trb": "turbo",
    "trscb": "transcribe",
    "tcrb": "transcribe",
    "d": "diarize",
    "41": "4.1",
}
_MIXED = ""
_FAMILIES: Mapping[str, Family] = {
    "gpt 4o": Family(model="gpt-4o"),
    "gpt 4o mini": Family(model="gpt-4o-mini"),
    "gpt 4o audio": Family(model="gpt-4o-audio-preview", modality="audio"),
    "gpt 4o mini audio": Family(model="gpt-4o-mini-audio-preview", modality="audio"),
    "gpt 4o realtime": Family(model="gpt-4o-realtime-preview", modality=_MIXED),
    "gpt 4o realtime preview": Family(model="gpt-4o-realtime-preview", modality=_MIXED),
    "gpt 4o mini realtime": Family(model="gpt-4o-mini-realtime-preview", modality=_MIXED),
    "gpt 4o transcribe": Family(model="gpt-4o-transcribe", modality=_MIXED),
    "gpt 4o transcribe diarize": Family(model="gpt-4o-transcribe-diarize", modality=_MIXED),
    "gpt 4o mini transcribe": Family(model="gpt-4o-mini-transcribe", modality=_MIXED),
    "gpt 4o mini tts": Family(model="gpt-4o-mini-tts", modality=_MIXED),
    "gpt 4.1": Family(model="gpt-4.1"),
    "gpt 4.1 mini": Family(model="gpt-4.1-mini"),
    "gpt 4.1 nano": Family(model="gpt-4.1-nano"),
    "gpt 4.5": Family(model="gpt-4.5-preview"),
    "gpt 4 32k": Family(model="gpt-4-32k"),
    "gpt 4 turbo 128k": Family(model="gpt-4-turbo"),
    "gpt audio": Family(model="gpt-audio", modality="audio"),
    "gpt audio mini": Family(model="gpt-audio-mini", modality="audio"),
    "gpt audio 1.5": Family(model="gpt-audio-1.5", modality="audio"),
    "gpt realtime": Family(model="gpt-realtime", modality=_MIXED),
    "gpt realtime mini": Family(model="gpt-realtime-mini", modality=_MIXED),
    "gpt realtime 1.5": Family(model="gpt-realtime-1.5", modality=_MIXED),
    "gpt realtime 2": Family(model="gpt-realtime-2", modality=_MIXED),
    "gpt realtime 2.1": Family(model="gpt-realtime-2.1", modality=_MIXED),
    "gpt realtime 2.1 mini": Family(model="gpt-realtime-2.1-mini", modality=_MIXED),
    "gpt realtime whisper": Family(
        model="gpt-realtime-whisper", kind=Kind.SECOND, direction="output"
    ),
    "gpt realtime translate": Family(
        model="gpt-realtime-translate", kind=Kind.SECOND, direction="output"
    ),
    "gpt image 1": Family(model="gpt-image-1", modality=_MIXED),
    "gpt image 1 mini": Family(model="gpt-image-1-mini", modality=_MIXED),
    "gpt image 1.5": Family(model="gpt-image-1.5", modality=_MIXED),
    "image 2": Family(model="gpt-image-2", modality=_MIXED),
    "image 2.5 flare": Family(model="gpt-image-2.5-flare", modality=_MIXED),
    "image 2.5 sunburst": Family(model="gpt-image-2.5-sunburst", modality=_MIXED),
    "gpt oss 20b": Family(model="gpt-oss-20b"),
    "gpt oss 120b": Family(model="gpt-oss-120b"),
    "o1": Family(model="o1"),
    "o1 preview": Family(model="o1-preview"),
    "o1 mini": Family(model="o1-mini"),
    "o1 pro": Family(model="o1-pro"),
    "o3": Family(model="o3"),
    "o3 mini": Family(model="o3-mini"),
    "o3 pro": Family(model="o3-pro"),
    "o3 deep research": Family(model="o3-deep-research"),
    "o4 mini": Family(model="o4-mini"),
    "codex mini": Family(model="codex-mini"),
    "computer use": Family(model="computer-use-preview"),
    "chat latest": Family(model="gpt-chat-latest"),
    "text embedding 3 large": Family(model="text-embedding-3-large", direction="input"),
    "text embedding 3 small": Family(model="text-embedding-3-small", direction="input"),
    "embedding ada": Family(model="text-embedding-ada-002", direction="input"),
    "image dall e 2": Family(model="dall-e-2", kind=Kind.IMAGE),
    "speech text to speech": Family(model="tts", kind=Kind.CHARACTER),
    "speech text to speech hd": Family(model="tts-hd", kind=Kind.CHARACTER),
    "speech to text whisper": Family(model="whisper", kind=Kind.SECOND, tier="batch"),
    "file search tool calls": Family(model=ANY, kind=Kind.FILE_SEARCH),
    "code interpreter": Family(model=ANY, kind=Kind.CODE_INTERPRETER),
    "code interpreter ep": Family(model=ANY, kind=Kind.CODE_INTERPRETER),
    "provisioned managed": Family(model=ANY, kind=Kind.PTU_HOUR),
}
# Their versions had several prices, and answers said gpt-35-turbo or gpt-4 of them all.
_RETIRED = re.compile(r"gpt 35 turbo(?: .+)?|gpt 4 8k|gpt 4 turbo vision 128k")
# GPT-5 and later: "5.4 mini", "gpt 5 pro", "6 astra".
_GPT = re.compile(
    r"gpt [5-9](?:\.\d)?(?: (?:mini|nano|pro|chat|codex|codex mini|codex max|sol|terra|luna|astra))?"
)
_BARE_VERSION = re.compile(r"\d(?:\.\d)?|4o")
_GLUED_VERSION = re.compile(r"([5-9])(\d)(mini|nano|pro|chat|codex|sol|terra|luna|astra)")  # 56sol
# Without a date, the meter is of this version: the later ones have meters with theirs.
_VERSIONS_WITHOUT_DATE = {"gpt-4o-realtime-preview": "2024-10-01"}
_VERSIONS: Mapping[str, str] = {
    "gpt-4o": "2024-05-13 2024-08-06 2024-11-20",
    "gpt-4o-mini": "2024-07-18",
    "gpt-4o-audio-preview": "2024-12-17 2025-06-03",
    "gpt-4o-mini-audio-preview": "2024-12-17",
    "gpt-4o-realtime-preview": "2024-10-01 2024-12-17 2025-06-03",
    "gpt-4o-mini-realtime-preview": "2024-12-17",
    "gpt-4o-mini-transcribe": "2025-03-20 2025-12-15",
    "gpt-4o-mini-tts": "2025-03-20 2025-12-15",
    "gpt-4.5-preview": "2025-02-27",
    "gpt-5.2-chat": "2025-12-11 2026-02-10",
    "gpt-chat-latest": "2026-05-05 2026-05-28 2026-08-06",
    "gpt-audio": "2025-08-28",
    "gpt-audio-mini": "2025-10-06 2025-12-15",
    "gpt-realtime": "2025-08-28",
    "gpt-realtime-mini": "2025-10-06 2025-12-15",
    "o1": "2024-12-17",
    "o3": "2025-04-16",
    "o3-mini": "2025-01-31",
    "o3-deep-research": "2025-06-26",
    "o4-mini": "2025-04-16",
}
_DATE_WORD = re.compile(r"\d{4}|\d{8}")
_VARIANTS = "mini nano pro chat codex max sol terra luna astra"
_WORDS = frozenset(f"{' '.join(_FAMILIES)} {_VARIANTS}".split())


def family_of(words: Sequence[str], *, is_gpt_product: bool) -> Family | Skipped:
    """The model that the words name, with its version; the words are those without shared meaning."""
    dates = [word for word in words if _DATE_WORD.fullmatch(word)]
    names = [_SPELLINGS.get(word, word) for word in words if word not in dates]
    if is_gpt_product and names:
        names = _with_family(names)
    found = _named(names)
    if found is None:
        return _unknown(names)
    if len(dates) > 1:
        return Skipped(Reason.UNKNOWN_DATE, " ".join(dates))
    version = _version(found.model, dates[0] if dates else "")
    if version is None:
        return Skipped(Reason.UNKNOWN_DATE, f"{found.model} {dates[0]}")
    return replace(found, model=f"{found.model}-{version}") if version else found


def _with_family(names: list[str]) -> list[str]:
    """The words of a GPT product's meter, which names the version alone."""
    if match := _GLUED_VERSION.fullmatch(names[0]):
        return ["gpt", f"{match[1]}.{match[2]}", match[3], *names[1:]]
    return ["gpt", *names] if _BARE_VERSION.fullmatch(names[0]) else names


def _named(names: Sequence[str]) -> Family | None:
    """The family of the words; a modality may stand between them, once."""
    found = _exact(names)
    if found is not None:
        return found
    for at, word in enumerate(names):
        if word in MODALITIES.values():
            found = _exact([*names[:at], *names[at + 1 :]])
            if found is not None and word in _modalities_of(found):
                return replace(found, modality=word)
    return None


def _modalities_of(family: Family) -> frozenset[str]:
    """What its meters may name: a model of audio charges for text, too."""
    if family.kind is not None:
        return frozenset()
    if family.modality == _MIXED:
        return frozenset(MODALITIES.values())
    return frozenset({family.modality, "text"})


def _exact(names: Sequence[str]) -> Family | None:
    phrase = " ".join(names)
    if match := _GPT.fullmatch(phrase):
        return Family(model=match[0].replace(" ", "-"))
    return _FAMILIES.get(phrase)


def _version(model: str, word: str) -> str | None:
    """The version's date, empty where the meter has none; None for one that is not known.

    A meter may name another date than its model: `chat-latest 07012026` is of no version of that day.
    """
    if not word:
        return _VERSIONS_WITHOUT_DATE.get(model, "")
    ending = f"{word[4:]}-{word[:2]}-{word[2:4]}"  # month, day, and perhaps the year
    found = [each for each in _VERSIONS.get(model, "").split() if each.endswith(ending)]
    return found[0] if len(found) == 1 else None


def _unknown(names: Sequence[str]) -> Skipped:
    if _RETIRED.fullmatch(" ".join(names)):
        return Skipped(Reason.RETIRED, " ".join(names))
    strange = next((name for name in names if name not in _WORDS and not _is_number(name)), None)
    if strange is not None:
        return Skipped(Reason.UNKNOWN_WORD, strange)
    return Skipped(Reason.UNKNOWN_MODEL, " ".join(names))


def _is_number(name: str) -> bool:
    return name.replace(".", "", 1).isdecimal()
