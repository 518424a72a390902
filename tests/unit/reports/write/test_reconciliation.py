"""How a reconciliation is written: a table for operators, JSON for programs."""

import io
import json

from meter.reports.reconcile import Reconciliation, reconcile
from meter.reports.write.reconciliation import MOST_HOURS, verdict, write_reconciliation
from meter.reports.write.report import Format
from meter.window import Window
from tests.support.reconcile import (
    EAST,
    EIGHT,
    SEVEN,
    at_seven,
    azure,
    own,
    provisioned,
    served,
    tally,
    terms,
    under,
)


def text_of(found: Reconciliation, form: Format = Format.TABLE) -> str:
    out = io.StringIO()
    write_reconciliation(found, form, out)
    return out.getvalue()


def mixed() -> Reconciliation:
    """One deployment that differs, one that agrees, one of other callers, one that is not comparable."""
    return reconcile(
        terms("1/200", notes=("hours from X on are left out",)),
        [
            served("east", gpt_4o="gpt-4o-ptu", mini="mini"),
            served("edge", None, embed="embed"),
        ],
        counted={
            under("east", "gpt-4o"): {
                SEVEN: tally(8_000, 2_300, 12, estimated_calls=3, missing_calls=1),
                EIGHT: tally(1_000, 500, 3),
            },
            under("east", "mini"): at_seven(60_000, 0, 60),
            under("east", "mini", "priority"): at_seven(30_000, 0, 30),
            under("edge", "embed"): at_seven(121, 0, 2),
        },
        recorded={
            own("gpt-4o-ptu"): azure({SEVEN: tally(9_500, 2_540, 14), EIGHT: tally(1_000, 510, 3)}),
            own("mini"): azure(at_seven(90_000, 0, 90), {"default": 59_900, "priority": 30_100}),
            own("gpt-4.1"): azure({EIGHT: tally(4_000, 1_000, 2)}),
        },
    )


def agreeing() -> Reconciliation:
    return reconcile(
        terms("1/200"),
        [served("east", mini="mini")],
        counted={under("east", "mini"): at_seven(995, 0, 9)},
        recorded={own("mini"): azure(at_seven(1_000, 0, 9), {"default": 1_000}, 0)},
    )


def test_a_table_shows_what_differs_and_ends_with_the_verdict() -> None:
    """Sums first, kinds of tokens where they differ, then hours, reasons, notes, one line to act on."""
    assert text_of(mixed(), Format.TABLE) == (
        "2026-11-22T00 to 2026-11-22T23, whole hours, UTC\n"
        "\n"
        "tokens           counted    azure  difference         %\n"
        "---------------  -------  -------  ----------  --------\n"
        "east/gpt-4o-ptu   11,800   13,550      -1,750   -12.92%  differs\n"
        "  prompt           9,000   10,500      -1,500   -14.29%\n"
        "  completion       2,800    3,050        -250    -8.20%\n"
        "  calls               15       17          -2   -11.76%  3 estimated, 1 missing\n"
        "east/gpt-4.1           0    5,000      -5,000  -100.00%  not ours\n"
        "  prompt               0    4,000      -4,000  -100.00%\n"
        "  completion           0    1,000      -1,000  -100.00%\n"
        "  calls                0        2          -2  -100.00%\n"
        "east/mini         90,000   90,000           0     0.00%  agrees\n"
        "  standard        60,000   59,900        +100    +0.17%\n"
        "  priority        30,000   30,100        -100    -0.33%\n"
        "---------------  -------  -------  ----------  --------\n"
        "total            101,800  108,550      -6,750    -6.22%\n"
        "\n"
        "hour           counted   azure  difference         %\n"
        "-------------  -------  ------  ----------  --------\n"
        "2026-11-22T08        0   5,000      -5,000  -100.00%  east/gpt-4.1\n"
        "2026-11-22T07   10,300  12,040      -1,740   -14.45%  east/gpt-4o-ptu, 3 estimated, 1 missing\n"
        "2026-11-22T08    1,500   1,510         -10    -0.66%  east/gpt-4o-ptu\n"
        "\n"
        "not comparable: embed at edge, 121 tokens counted; no resource_id for backend edge\n"
        "\n"
        "note: hours from X on are left out\n"
        "\n"
        "DIFFERS beyond 0.5%: difference -6,750 tokens (-6.22%), in east/gpt-4o-ptu, east/gpt-4.1\n"
    )


def test_an_agreement_is_one_line_per_deployment_and_one_for_the_verdict() -> None:
    """A difference within the tolerance is still shown."""
    lines = text_of(agreeing(), Format.TABLE).splitlines()

    assert lines[4].split() == ["east/mini", "995", "1,000", "-5", "-0.50%", "agrees"]
    assert lines[-1] == "AGREES within 0.5%: difference -5 tokens (-0.50%)"


def test_spilled_calls_are_shown_where_they_were_served() -> None:
    """With what Azure knows of them; a deployment without any has no such row."""
    found = reconcile(
        terms(),
        [provisioned("ptu", gpt="gpt-ptu")],
        counted={
            under("ptu", "gpt", "provisioned"): at_seven(100),
            under("ptu", "gpt"): at_seven(7, calls=3),
        },
        recorded={
            own("gpt-ptu"): azure(at_seven(100), {"default": 100}, 0),
            own("spill"): azure(at_seven(7), {"default": 7}, 4),
        },
    )
    rows = [line.split() for line in text_of(found).splitlines()[4:7]]

    assert rows == [
        ["east/gpt-ptu", "100", "100", "0", "0.00%", "agrees"],
        ["east/spill", "7", "7", "0", "0.00%", "agrees"],
        ["spilled", "calls", "3", "4", "-1", "-25.00%"],
    ]
    spilled = [
        line["spilled_calls"] for line in json.loads(text_of(found, Format.JSON))["deployments"]
    ]
    assert [each["azure"] for each in spilled] == [0, 4]


def test_a_long_account_leaves_room_for_the_deployment() -> None:
    """Deployments of one account are told apart."""
    account = f"{EAST}-openai-of-the-whole-company"
    found = reconcile(
        terms(),
        [served("a", account, one="gpt-4o-mini-2024-one", two="gpt-4o-mini-2024-two")],
        counted={},
        recorded={},
    )

    assert [line.split("  ")[0] for line in text_of(found).splitlines()[4:6]] == [
        "east-ope.../gpt-4o-mini-2024-one",
        "east-ope.../gpt-4o-mini-2024-two",
    ]


def test_a_difference_where_azure_has_nothing_has_no_percentage() -> None:
    """There is nothing to take a share of."""
    found = reconcile(
        terms(), [served("east", a="a")], counted={under("east", "a"): at_seven(5)}, recorded={}
    )

    row = text_of(found, Format.TABLE).splitlines()[4]
    assert row.split() == ["east/a", "5", "0", "+5", "-", "differs"]
    assert verdict(found) == "DIFFERS beyond 0%: difference +5 tokens, in east/a"


def test_nothing_compared_says_so() -> None:
    """The reasons are listed; there is no empty table."""
    found = reconcile(terms(), [served("edge", None, a="a")], counted={}, recorded={})

    assert text_of(found, Format.TABLE) == (
        "2026-11-22T00 to 2026-11-22T23, whole hours, UTC\n"
        "\n"
        "not comparable: a at edge, 0 tokens counted; no resource_id for backend edge\n"
        "\n"
        "NOTHING COMPARED: no deployment of an account with a resource_id\n"
    )


def test_a_table_shows_the_hours_that_differ_most_and_json_all_of_them() -> None:
    """The list is bounded, with the largest first; the others are counted."""
    differing = {
        Window(f"2026-11-22T{hour:02}"): tally(100 + hour) for hour in range(MOST_HOURS + 3)
    }
    found = reconcile(
        terms(), [served("east", a="a")], counted={}, recorded={own("a"): azure(differing)}
    )
    text = text_of(found, Format.TABLE)
    hours = [line[:13] for line in text.splitlines() if line.endswith("  east/a")]

    assert hours == [f"2026-11-22T{hour:02}" for hour in range(12, 2, -1)]
    assert "... and 3 more hours: the JSON lists all\n" in text
    document = json.loads(text_of(found, Format.JSON))
    assert len(document["deployments"][0]["differing_hours"]) == MOST_HOURS + 3


def test_json_has_every_number_name_and_reason() -> None:
    """A program needs to parse no table."""
    document = json.loads(text_of(mixed(), Format.JSON))
    first, second, third, fourth = document["deployments"]

    assert (document["from"], document["to"]) == ("2026-11-22T00", "2026-11-22T23")
    assert (document["tolerance_percent"], document["agrees"]) == (0.5, False)
    assert document["notes"] == ["hours from X on are left out"]
    assert document["total"]["total_tokens"]["difference"] == -6_750
    assert first["deployments"] == ["gpt-4o"]
    assert first["azure"] == [{"resource_id": EAST.lower(), "deployment": "gpt-4o-ptu"}]
    assert (first["standing"], first["is_beyond_tolerance"]) == ("differs", True)
    assert first["prompt_tokens"] == {
        "counted": 9_000,
        "azure": 10_500,
        "difference": -1_500,
        "percent": -14.285714,
    }
    assert (first["estimated_calls"], first["missing_calls"]) == (3, 1)
    assert [hour["hour"] for hour in first["differing_hours"]] == [SEVEN.name, EIGHT.name]
    assert (second["standing"], second["deployments"]) == ("not ours", [])
    assert (third["standing"], third["differing_hours"]) == ("agrees", [])
    assert third["tiers"] == {
        "standard": {"counted": 60_000, "azure": 59_900, "difference": 100, "percent": 0.166945},
        "priority": {"counted": 30_000, "azure": 30_100, "difference": -100, "percent": -0.332226},
    }
    assert (first["tiers"], first["spilled_calls"], first["backend"]) == (None, None, None)
    assert (fourth["deployments"], fourth["backend"], fourth["azure"]) == (["embed"], "edge", [])
    assert fourth["reason"] == "no resource_id for backend edge"


def test_a_name_cannot_fake_lines_or_stretch_the_table() -> None:
    """Names come from Azure and from events: escaped, and shortened where they are long."""
    found = reconcile(
        terms(),
        [served("east", a="a")],
        counted={under("gone", "evil\nAGREES"): at_seven(5)},
        recorded={own("x\x1b[2J"): azure(at_seven(5)), own("y" * 64): azure(at_seven(4))},
    )
    text = text_of(found, Format.TABLE)

    assert "east/x\\x1b[2j" in text
    assert f"east/{'y' * 24}...  " in text
    assert "evil\\nAGREES" in text
    assert not any(line.startswith("AGREES") for line in text.splitlines())


def test_a_verdict_names_the_first_and_counts_the_others() -> None:
    """One line, however many differ."""
    names = [f"d{number}" for number in range(5)]
    found = reconcile(
        terms(),
        [served("east", **{name: name for name in names})],
        counted={},
        recorded={own(name): azure(at_seven(10)) for name in names},
    )

    assert (
        verdict(found)
        == "DIFFERS beyond 0%: difference -50 tokens (-100.00%), in east/d0, east/d1, east/d2 and 2 more"
    )
