"""Nobody holds more than its share, and what is given back is there for all."""

from hypothesis import given
from hypothesis import strategies as st

from meter.gateway.limits.quota import Holding, Quota, Refusal


def test_a_subject_has_its_share_and_others_the_rest() -> None:
    """Half of four, one at a time."""
    quota = Quota(total=4, share_percent=50)

    alice = [quota.holding("alice").grow(1) for _ in range(3)]
    others = [quota.holding(name).grow(1) for name in ("bob", "carol", "dave")]

    assert alice == [None, None, Refusal.SHARE]
    assert others == [None, None, Refusal.FULL]


def test_a_share_is_at_least_one_holding() -> None:
    """However large, as long as the instance has it."""
    quota = Quota(total=100, share_percent=10)
    first, second = quota.holding("alice"), quota.holding("alice")

    assert first.grow(40) is None
    assert first.grow(50) is None
    assert second.grow(1) is Refusal.SHARE
    assert first.grow(11) is Refusal.FULL


def test_what_is_given_back_is_given_back_once() -> None:
    """A second time changes nothing."""
    quota = Quota(total=2, share_percent=50)
    held, other = quota.holding("alice"), quota.holding("alice")
    held.grow(1)
    held.give_back()
    other.grow(1)
    held.give_back()

    assert (quota.used, quota.held_by("alice")) == (1, 1)


def test_nothing_is_given_of_nothing() -> None:
    """A total of 0 has no share."""
    assert Quota(total=0).holding("alice").grow(1) is Refusal.FULL


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(0, 40)), max_size=60
)


@given(STEPS, st.integers(1, 100), st.integers(1, 100))
def test_the_sums_always_hold(
    steps: list[tuple[str, int, int]], total: int, share_percent: int
) -> None:
    """`used` is all that is held, never over the total; one subject's several are within its share."""
    quota = Quota(total, share_percent)
    held: dict[tuple[str, int], Holding] = {}
    for subject, number, amount in steps:
        holding = held.setdefault((subject, number), quota.holding(subject))
        if amount:
            holding.grow(amount)
        else:
            holding.give_back()

        assert quota.used == sum(each.size for each in held.values()) <= total
        for name in "abc":
            sizes = [each.size for (of, _), each in held.items() if of == name and each.size]
            assert quota.held_by(name) == sum(sizes)
            assert len(sizes) < 2 or sum(sizes) - min(sizes) <= quota.share
