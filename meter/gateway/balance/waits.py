"""Reads the waits that backends name in headers and in texts.

A text's wait is replaced by the gateway's own, since callers read it there too. Texts come in the
languages of proxies: a wait is a duration beside a word such as `retry`, `again` or `wait`, or one
whose unit is not English, unless it is that of a rate (`per 60 seconds`). Compiling their patterns
is 2 % of a start's CPU time, and few starts meet such a text at once: the first text does it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache

from meter.gateway.answer.stated_error import StatedError
from meter.patterns import lazy_pattern
from meter.ports import Headers

MAX_WAIT_SECONDS = 86_400.0

_RESETS = (
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-rate-limit-reset-tokens",
)
# French, German, Spanish, Portuguese, Italian, Dutch, Swedish, Polish, Turkish, Russian, Chinese,
# Japanese, Korean.
_ENGLISH = {
    0.001: "milliseconds?|msecs?|ms",
    1.0: "seconds?|secs?|s",
    60.0: "minutes?|mins?|m",
    3_600.0: "hours?|hrs?|h",
    86_400.0: "days?|d",
}
_OTHERS = {
    0.001: "millisecondes?|millisekunden?|milisegundos?|毫秒|ミリ秒|밀리초",
    1.0: "secondes?|sekunden?|sek|segundos?|second[io]|seconden|sekund(?:y|er)?|saniye|секунд[аыу]?|"
    "秒钟|秒鐘|秒間|秒|초",
    60.0: "minuten?|minutos?|minut(?:i|o|y|er)?|dakika|минут[аыу]?|分钟|分鐘|分間|分|분",
    3_600.0: "heures?|stunden?|std|horas?|or[ae]|uur|uren|timm(?:e|ar)|godzin[ay]?|saat|час(?:а|ов)?|"
    "小时|小時|時間|시간",
    86_400.0: "jours?|tage?n?|d[ií]as?|giorn[io]|dag(?:en)?|dni|gün|дн(?:я|ей)|天|日間",
}
_NUMBER = r"[0-9]{1,9}(?:[, \u00a0\u202f'][0-9]{3}(?![0-9])){0,2}(?:\.[0-9]{1,9})?"
_NAMES = "|".join(f"{_OTHERS[seconds]}|{_ENGLISH[seconds]}" for seconds in _ENGLISH)
_END = "(?![a-zäöüéíóñа-я])"
_PART = rf"{_NUMBER}[\s-]?(?:{_NAMES}){_END}"
# As API Management writes them, with days before.
_CLOCK = lazy_pattern(r"(?:([0-9]{1,3})\.)?([0-9]{1,2}):([0-9]{2}):([0-9]{2}(?:\.[0-9]{1,9})?)")
_AND = r"(?:,?\s(?:and|et|und|y|e|en)\s|,?\s?)"
_BEFORE_CLOCK = lazy_pattern(r"\b(?:in|after)\s*$", re.IGNORECASE)  # `at` is a time of the day
_RATE = lazy_pattern(r"(?:\b(?:per|pro|par|por|je|al|every|each)|每|毎|/)\s*$", re.IGNORECASE)
_BEFORE = 80
_NO_DIGIT = lazy_pattern(r"[^0-9.]")


def named_wait_seconds(
    headers: Headers, now: datetime, error: StatedError | None = None
) -> float | None:
    """The wait that an answer names, in seconds, at most a day; None when it names none above 0."""
    values: Mapping[str, str] = dict(headers)
    milliseconds = _seconds(values.get("retry-after-ms", ""))
    retry_after = values.get("retry-after", "")
    resets = [_duration(values.get(name, "")) for name in _RESETS]
    wait = (
        (milliseconds / 1000 if milliseconds else None)
        or _duration(retry_after)
        or _until(retry_after, now)
        or (None if error is None else wait_in(error.message))
        or max((reset for reset in resets if reset), default=None)
    )
    return None if wait is None else min(wait, MAX_WAIT_SECONDS)


def wait_in(text: str | None) -> float | None:
    """The wait that a text asks for, in seconds; None where it asks for none above 0."""
    return next((_length(found[0]) or None for found in _waits(text or "")), None)


def with_wait(text: str, seconds: int) -> str:
    """The text with its waits replaced, so that it says what the headers say."""
    parts, at = [], 0
    for found in _waits(text):
        parts += [text[at : found.start()], f"{seconds} seconds"]
        at = found.end()
    return "".join([*parts, text[at:]])


def _waits(text: str) -> Iterator[re.Match[str]]:
    for found in _durations().finditer(text):
        before = text[max(0, found.start() - _BEFORE) : found.start()]
        if _RATE.search(before) or (":" in found[0] and not _BEFORE_CLOCK.search(before)):
            continue
        if _asked().search(before) or _is_foreign(found[0]):
            yield found


@cache
def _durations() -> re.Pattern[str]:
    return re.compile(
        rf"(?<![A-Za-z0-9_.:])(?:{_CLOCK.pattern}(?![0-9:])|{_PART}(?:{_AND}{_PART})*)",
        re.IGNORECASE,
    )


@cache
def _wait_parts() -> re.Pattern[str]:
    return re.compile(rf"({_NUMBER})[\s-]?({_NAMES}){_END}", re.IGNORECASE)


@cache
def _asked() -> re.Pattern[str]:
    return re.compile(
        r"(?:\b(?:retry|again|wait|replenish|r[ée]essa|patient|attend|warte|versuch|erneut|intent|"
        r"reint|esper|aguard|tent|ripro|attes|wacht|probeer)|重试|重試|再试|再試|等待|待|다시|기다)"
        r"[^0-9.!?。]{0,60}$",
        re.IGNORECASE,
    )


@cache
def _units() -> list[tuple[re.Pattern[str], float, bool]]:
    return [
        (re.compile(f"(?:{names})", re.IGNORECASE), seconds, kind is _OTHERS)
        for kind in (_ENGLISH, _OTHERS)
        for seconds, names in kind.items()
    ]


def _is_foreign(duration: str) -> bool:
    return any(_unit(name)[1] for _, name in _wait_parts().findall(duration))


def _length(duration: str) -> float:
    if (clock := _CLOCK.fullmatch(duration)) is not None:
        days, hours, minutes, seconds = (float(number or 0) for number in clock.groups())
        return days * 86_400 + hours * 3_600 + minutes * 60 + seconds
    parts = _wait_parts().findall(duration)
    return sum(float(_NO_DIGIT.sub("", number)) * _unit(name)[0] for number, name in parts)


def _unit(name: str) -> tuple[float, bool]:
    """How many seconds a unit has, and whether its name is not English."""
    return next(
        (seconds, is_foreign)
        for pattern, seconds, is_foreign in _units()
        if pattern.fullmatch(name)
    )


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _duration(text: str) -> float | None:
    """Seconds as a number, or in forms such as `20s`, `1m30s` and `250ms`."""
    text = text.strip()
    if not _durations().fullmatch(text):
        return _seconds(text)
    return _length(text) or None


def _until(text: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (aware - now).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return seconds if seconds > 0 else None
