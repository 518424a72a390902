"""Where Azure recorded what spilled over from a provisioned deployment."""

from meter.reports.matching import BackendNames, match
from meter.reports.reconcile import Line, reconcile
from meter.reports.tally import OwnDeployment, Recorded, Tally
from tests.support.reconcile import (
    WEST,
    at_seven,
    azure,
    own,
    provisioned,
    served,
    tally,
    terms,
    under,
)

PTU = provisioned("ptu", gpt="gpt-ptu")
PAYGO = served("paygo", gpt="gpt-std")
CAPACITY = under("ptu", "gpt", "provisioned")
SPILLED = under("ptu", "gpt", "standard")


def lines_of(
    *backends: BackendNames, recorded: dict[OwnDeployment, Recorded], spilled: int = 7
) -> dict[str, Line]:
    """The lines of 100 tokens at capacity and some that spilled over, in three calls."""
    counted = {CAPACITY: at_seven(100), SPILLED: at_seven(spilled, calls=3)}
    found = reconcile(terms(), backends, counted=counted, recorded=recorded)
    return {line.label: line for line in found.lines}


def tokens(lines: dict[str, Line]) -> dict[str, tuple[int, int]]:
    return {
        label: (line.sums.counted.total_tokens, line.sums.recorded.total_tokens)
        for label, line in lines.items()
    }


def test_spilled_usage_is_compared_with_the_deployment_that_served_spilled_calls() -> None:
    """Azure records it there, whether or not a backend names it; so that deployment is ours."""
    lines = lines_of(
        PTU,
        recorded={
            own("gpt-ptu"): azure(at_seven(100), {"default": 100}, 0),
            own("spill"): azure(at_seven(7), {"default": 7}, 3),
            own("other"): azure(at_seven(9), {"default": 9}, 0),
        },
    )

    assert tokens(lines) == {"east/gpt-ptu": (100, 100), "east/spill": (7, 7), "east/other": (0, 9)}
    assert [str(line.standing) for line in lines.values()] == ["not ours", "agrees", "agrees"]
    spilled = lines["east/spill"].spilled
    assert spilled is not None
    assert (spilled.counted.calls, spilled.recorded.calls) == (3, 3)
    assert lines["east/spill"].names == ("gpt",)


def test_without_a_split_it_is_compared_together_with_the_standard_deployment_of_its_name() -> None:
    """On the same account, since Azure spills nowhere else; either may have it."""
    elsewhere = served("west", WEST, gpt="gpt-std")
    lines = lines_of(
        PTU,
        PAYGO,
        elsewhere,
        recorded={own("gpt-ptu"): azure(at_seven(100)), own("gpt-std"): azure(at_seven(7))},
    )

    assert tokens(lines) == {"east/gpt-ptu, east/gpt-std": (107, 107), "west/gpt-std": (0, 0)}


def test_it_stays_where_it_was_counted_if_nothing_else_is_known() -> None:
    """As before: the operator sees a `+` here and `not ours` beside it."""
    lines = lines_of(
        PTU,
        recorded={own("gpt-ptu"): azure(at_seven(100)), own("spill"): azure(at_seven(7))},
    )

    assert tokens(lines) == {"east/gpt-ptu": (107, 100), "east/spill": (0, 7)}


def test_it_stays_where_it_was_counted_if_nothing_spilled_in_azure() -> None:
    """The backend may have been a standard one in that hour."""
    lines = lines_of(
        PTU, PAYGO, recorded={own("gpt-ptu"): azure(at_seven(107), {"default": 107}, 0)}
    )

    assert tokens(lines) == {"east/gpt-ptu": (107, 107), "east/gpt-std": (0, 0)}


def test_of_several_that_served_spilled_calls_the_one_of_its_name_is_taken() -> None:
    """Another provisioned deployment of the account spills to the other."""
    lines = lines_of(
        PTU,
        PAYGO,
        recorded={
            own("gpt-ptu"): azure(at_seven(100), {}, 0),
            own("gpt-std"): azure(at_seven(7), {}, 3),
            own("other"): azure(at_seven(50), {}, 9),
        },
    )

    assert tokens(lines) == {
        "east/other": (0, 50),
        "east/gpt-ptu": (100, 100),
        "east/gpt-std": (7, 7),
    }


def test_several_that_may_have_served_it_are_compared_as_one() -> None:
    """No difference is invented, and none is hidden in their sum."""
    recorded = {
        own("gpt-ptu"): azure(at_seven(100), {"default": 100}, 0),
        own("a"): azure(at_seven(3), {"default": 3}, 1),
        own("b"): azure(at_seven(4), {"default": 4}, 2),
    }
    lines = lines_of(PTU, served("paygo", a="a"), recorded=recorded)

    joined = lines["east/a, east/b"]
    assert tokens(lines) == {"east/gpt-ptu": (100, 100), "east/a, east/b": (7, 7)}
    assert joined.own == (own("a"), own("b"))
    assert joined.names == ("a", "gpt")
    assert joined.spilled is not None
    assert joined.spilled.recorded == Tally(calls=3)


def test_joined_deployments_keep_what_was_counted_before_and_after() -> None:
    """In whatever order the usage comes."""
    backends = [PTU, served("paygo", a="a", b="b")]
    direct = [under("paygo", "a"), under("paygo", "b")]
    recorded = {own(name): azure(at_seven(1), {}, 1) for name in "ab"}
    for order in ([SPILLED, *direct], [direct[0], SPILLED, direct[1]], [*direct, SPILLED]):
        found = match(backends, order, recorded)

        (joined,) = [each for each in found if len(each.own) == 2]
        assert sorted(joined.counted) == sorted([SPILLED, *direct])
        assert joined.spilled == (SPILLED,)


def test_two_public_names_of_one_deployment_spill_alike() -> None:
    """Either name may be the one that a standard backend has, too."""
    ptu = provisioned("ptu", gpt="gpt-ptu", fast="gpt-ptu")
    counted = {under("ptu", "fast", "standard"): at_seven(2), SPILLED: at_seven(5)}
    found = reconcile(
        terms(),
        [ptu, PAYGO],
        counted=counted,
        recorded={
            own("gpt-ptu"): azure({}, {}, 0),
            own("gpt-std"): azure(at_seven(7), {}, 2),
        },
    )

    assert {line.label: line.sums.counted for line in found.lines} == {
        "east/gpt-ptu": Tally(),
        "east/gpt-std": tally(7),
    }
