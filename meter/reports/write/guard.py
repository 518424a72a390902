"""Keeps spreadsheets from taking a text for a formula, by apostrophes that can be taken out again.

Spreadsheets run cells that begin with one of a few signs as formulas, some after quotes, blanks and what
shows no sign: controls, format characters, fillers and variation selectors. Where the list separator is
`;` or a tab, a cell begins behind each of them, and behind a line's end. An apostrophe at such a place
makes it a text. A text that has apostrophes there already gets one more, so no two texts look alike.
"""

import re

# The apostrophe is among what is passed over: what a guard puts in must not hide a place from the other way.
_PASSED = (
    r"'\s\"\x00-\x1f\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160"
    r"\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff"
    r"\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_FORMULA = rf"(?=[{_PASSED}]*[=+\-@＝＋－＠﹦﹢﹣﹫−])"
_BEHIND = r"^|[;\t\r\n]"
_GUARD = re.compile(rf"(^(?='*[\t\r\n])|(?:{_BEHIND}){_FORMULA})")
_GUARDED = re.compile(rf"^'(?='*[\t\r\n])|({_BEHIND})'{_FORMULA}")


def guarded(text: str) -> str:
    """The text as no spreadsheet runs it; most stay as they are."""
    return _GUARD.sub(r"\1'", text)


def unguarded(text: str) -> str:
    """The text that was guarded; one that no guard has made stays as it is."""
    return _GUARDED.sub(r"\1", text)
