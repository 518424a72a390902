"""Keys: whatever the text, its key is legal, short, unique and can be read back."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from meter.ledger.keys import MAX_COMPONENT_CHARS, escape, unescape

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LONG_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=60, max_size=255)
LEGAL = re.compile(r"[A-Za-z0-9\-._@:=~]*")
HASH_FORM = re.compile(r"(?:[A-Za-z0-9\-._@:]|=[0-9A-F]{2}){29,90}=~[0-9a-f]{64}")


@given(ANY_TEXT | LONG_TEXT)
@example("=~")
@example("a=~" + "0" * 64)
def test_a_key_reads_back_as_its_text_or_is_a_hash(text: str) -> None:
    """Escaping loses nothing, but for texts too long for a key."""
    key = escape(text)

    assert unescape(key) == text or HASH_FORM.fullmatch(key)


@given(ANY_TEXT | LONG_TEXT)
@example("\x00/\\#?%|'\"\x7f\x85")
@example("𐀀" * 255)
def test_a_key_is_legal_and_short(text: str) -> None:
    """No character Table Storage forbids, no separator, nothing but ASCII, never too long."""
    key = escape(text)

    assert LEGAL.fullmatch(key)
    assert len(key) <= MAX_COMPONENT_CHARS


@given(st.lists(ANY_TEXT | LONG_TEXT, unique=True, min_size=2, max_size=6))
@example(["a|b", "a=7Cb"])
@example(["ß" * 100, "ß" * 101])
def test_different_texts_have_different_keys(texts: list[str]) -> None:
    """Escaping is injective: no subject can be billed for another by a clever name."""
    keys = {escape(text) for text in texts}

    assert len(keys) == len(texts)


@given(st.text("=~|7C%", min_size=1, max_size=40), st.text("=~|7C%", min_size=1, max_size=40))
def test_escapes_of_escapes_stay_apart(left: str, right: str) -> None:
    """Texts made of the escape's own characters collide no more than others."""
    keys = escape(left), escape(right)

    assert (keys[0] == keys[1]) == (left == right)


@given(st.lists(ANY_TEXT, min_size=4, max_size=4))
def test_joined_components_can_be_told_apart(parts: list[str]) -> None:
    """The separator is never part of a component."""
    joined = "|".join(map(escape, parts))

    assert [unescape(part) for part in joined.split("|")] == [
        text if unescape(escape(text)) is not None else None for text in parts
    ]
