"""The guard against formulas: no spreadsheet runs a guarded text, and each can be had back."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meter.reports.write.guard import guarded, unguarded

SIGNS = "=+-@＝＋－＠﹦﹢﹣﹫−"
# What the guard looks at, more often than chance has it.
TEXTS = st.text(st.sampled_from("'=+-@;\t\r\n \"\u200b\u202ea＝")) | st.text(max_size=40)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("@alice", "'@alice"),
        (" =1", "' =1"),
        ("a;=1", "a;'=1"),
        ("a\n=1", "a\n'=1"),
        ("\talice", "'\talice"),
        ("'=1", "''=1"),
        ("'' =1", "''' =1"),
        ("'\talice", "''\talice"),
        ("it's - fine", "it's - fine"),
        ("'quoted'", "'quoted'"),
        ("alice@contoso.example", "alice@contoso.example"),
    ],
)
def test_an_apostrophe_stands_before_what_would_be_run(text: str, safe: str) -> None:
    """And one more where there is one already, so that no two texts look alike."""
    assert guarded(text) == safe
    assert unguarded(safe) == text


@given(TEXTS)
@example("\t\n=")
@example(" \n=")
@example("'\n'=")
@example(";;'=;")
@settings(max_examples=400)
def test_every_text_can_be_had_back(text: str) -> None:
    """Whatever stands where."""
    assert unguarded(guarded(text)) == text


@given(TEXTS)
@settings(max_examples=400)
def test_a_text_that_nobody_guarded_loses_apostrophes_before_formulas_alone(text: str) -> None:
    """People write files, too; what has no such sign stays."""
    if not any(sign in text for sign in (*SIGNS, "\t", "\r", "\n")):
        assert unguarded(text) == text
    assert unguarded(text).replace("'", "") == text.replace("'", "")
