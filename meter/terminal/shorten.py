"""Shortens texts in the middle, so that their beginnings and ends still tell them apart."""

from collections.abc import Iterable, Mapping

from meter.terminal import cells

MARK = "…"


def shortened(texts: Iterable[str], width: int) -> Mapping[str, str]:
    """What each text is shown as in `width` cells.

    The cut is in the middle; near an end where that tells more of the texts apart.
    """
    distinct = list(dict.fromkeys(texts))
    room = width - 1
    found: dict[str, str] = {}
    for tail in (room // 2, room - 2, 2):
        tried = {text: _shortened(text, width, max(tail, 0)) for text in distinct}
        if len(set(tried.values())) > len(set(found.values())):
            found = tried
    return found


def _shortened(text: str, width: int, tail: int) -> str:
    if cells(text) <= width:
        return text
    end = _last(text, min(tail, width - 1))
    return f"{_first(text, width - 1 - cells(end))}{MARK}{end}"


def _first(text: str, width: int) -> str:
    taken = 0
    for place, char in enumerate(text):
        taken += cells(char)
        if taken > width:
            return text[:place]
    return text


def _last(text: str, width: int) -> str:
    return _first(text[::-1], width)[::-1]


def split(text: str, width: int) -> list[str]:
    """The whole text in lines of `width` cells at most."""
    lines = []
    while text:
        line = _first(text, width) or text[0]
        lines.append(line)
        text = text[len(line) :]
    return lines or [""]
