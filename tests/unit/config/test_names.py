"""Names that are much like a setting's."""

from difflib import get_close_matches

from hypothesis import example, given
from hypothesis import strategies as st

from meter.config.names import nearest

texts = st.text("aBcde_", min_size=1, max_size=12)


@given(
    name=texts, names=st.sets(texts, min_size=1, max_size=5), cutoff=st.sampled_from([0.6, 0.85])
)
@example(name="ab", names={"abc"}, cutoff=0.8)  # exactly as much alike
def test_the_letters_that_two_names_share_leave_out_no_name_that_is_like_it(
    name: str, names: set[str], cutoff: float
) -> None:
    """Names are compared only where their letters allow it, which finds the same."""
    by_text = {each.lower(): each for each in sorted(names)}

    found = get_close_matches(name.lower(), by_text, n=1, cutoff=cutoff)
    assert nearest(name, names, 0, cutoff) == (by_text[found[0]] if found else None)
