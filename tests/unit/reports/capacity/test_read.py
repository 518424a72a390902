"""What a capacity file may say, and what is refused of it: everything at once."""

from datetime import date
from fractions import Fraction

import pytest

from meter.errors import InvalidInput
from meter.reports.capacity.entries import Entry, Holder, HolderKind, Idle
from meter.reports.capacity.read import read_capacity

WHOLE = """\
[[capacity]]
backend = "ptu-swedencentral"            # or deployment = "gpt-4o"
ptus = 100
from = 2026-10-01                        # inclusive
to = 2027-01-01                          # exclusive; absent: open
price_per_ptu_hour = "1.00"              # or "from price book" (kind ptu_hour)
currency = "USD"
idle = "by-use"                          # by-use | by-share | separate
[capacity.ratios]
"gpt-4o" = 4
[capacity.tokens_per_minute]
"gpt-4o" = 2500
[capacity.shares]
"team:research" = 3
"cost_centre:4711" = 0.5
alice = 1
"""
LEAST = {
    "backend": '"ptu"',
    "ptus": "1",
    "from": "2026-10-01",
    "price_per_ptu_hour": '"1"',
    "currency": '"USD"',
    "idle": '"separate"',
}


def text_of(*more: str, **values: str | None) -> str:
    """An entry of the least keys, changed and with more lines."""
    keys = {**LEAST, **values}
    lines = [f"{key.rstrip('_')} = {value}" for key, value in keys.items() if value is not None]
    return "\n".join(["[[capacity]]", *lines, *more, ""])


def read(text: str) -> list[Entry]:
    """The entries of a text."""
    return list(read_capacity(text.encode(), "capacity.toml").entries)


def problems(text: str | bytes) -> list[str]:
    """What is wrong with a text."""
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(InvalidInput) as caught:
        read_capacity(data, "capacity.toml")
    return list(caught.value.problems)


def test_an_entry_is_read_as_it_says() -> None:
    """Every number is exact."""
    (entry,) = read(WHOLE)

    assert entry == Entry(
        backend="ptu-swedencentral",
        ptus=100,
        first=date(2026, 10, 1),
        end=date(2027, 1, 1),
        price=Fraction(1),
        currency="USD",
        idle=Idle.BY_USE,
        ratios={"gpt-4o": Fraction(4)},
        tokens_per_minute={"gpt-4o": Fraction(2500)},
        shares={
            Holder(HolderKind.TEAM, "research"): Fraction(3),
            Holder(HolderKind.COST_CENTRE, "4711"): Fraction(1, 2),
            Holder(HolderKind.SUBJECT, "alice"): Fraction(1),
        },
        place="capacity.toml, line 1: capacity[1]",
    )


def test_a_price_may_come_from_the_book() -> None:
    """Its region and deployment type may be said, in Azure's spelling or its short one."""
    (entry,) = read(
        text_of(
            price_per_ptu_hour='"from price book"',
            region='"Sweden Central"',
            deployment_type='"Data Zone"',
        )
    )

    assert entry.price is None
    assert (entry.region, entry.deployment_type) == ("swedencentral", "data-zone")


def test_a_decimal_number_is_exact() -> None:
    """No binary floating point: 0.1 is a tenth."""
    (entry,) = read(text_of("[capacity.ratios]", "O3 = 0.1"))

    assert entry.ratios == {"o3": Fraction(1, 10)}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ptus": "0"}, "ptus must be a whole number from 1 to 10,000,000, got 0"),
        ({"ptus": "1.0"}, "ptus must be a whole number from 1 to 10,000,000, got 1.0"),
        ({"ptus": "true"}, "ptus must be a whole number from 1 to 10,000,000, got true"),
        ({"ptus": '"100"'}, 'ptus must be a whole number from 1 to 10,000,000, got "100"'),
        (
            {"from": '"2026-10-01"'},
            'from must be a date (UTC) without quotes and time, like 2026-10-01, got "2026-10-01"',
        ),
        (
            {"to": "2026-10-01T00:00:00Z"},
            "to must be a date (UTC) without quotes and time, like 2026-10-01, "
            "got 2026-10-01 00:00:00+00:00",
        ),
        (
            {"to": "2026-10-01"},
            "to is exclusive, so it must be after from, 2026-10-01; got 2026-10-01",
        ),
        (
            {"price_per_ptu_hour": "1.00"},
            'price_per_ptu_hour must be decimal text of 0 or more in quotes, like "1.00", or '
            '"from price book" (it is a TOML float: put it in quotes), got 1.00',
        ),
        (
            {"price_per_ptu_hour": "1"},
            'price_per_ptu_hour must be decimal text of 0 or more in quotes, like "1.00", or '
            '"from price book" (it is a TOML integer: put it in quotes), got 1',
        ),
        *(
            (
                {"price_per_ptu_hour": f'"{text}"'},
                'price_per_ptu_hour must be decimal text of 0 or more in quotes, like "1.00", or '
                f'"from price book", got "{text}"',
            )
            for text in ("1,00", "-1", "1e3", "", "NaN", "1 USD", "From price book", "١")
        ),
        (
            {"currency": '"usd"'},
            'currency must be a code of three capital letters (ISO 4217), like "USD", got "usd"',
        ),
        (
            {"idle": '"by_use"'},
            'idle must be one of by-use, by-share, separate, got "by_use"',
        ),
        ({"backend": '" "'}, 'backend must be a name in quotes, got " "'),
        ({"backend": "7"}, "backend must be a name in quotes, got 7"),
        (
            {"deployment_type": '"worldwide"'},
            'deployment_type must be one of global, data-zone, regional, got "worldwide"',
        ),
        ({"ptu": "1"}, "ptu is unknown: did you mean ptus?"),
        (
            {"tokens-per-minute": "1"},
            "tokens-per-minute is unknown: did you mean tokens_per_minute?",
        ),
        (
            {"quota": "1"},
            "quota is unknown: accepted are backend, deployment, ptus, from, price_per_ptu_hour, "
            "currency, idle, to, region, deployment_type, ratios, tokens_per_minute, shares",
        ),
        (
            {"ratios": "4"},
            "ratios must be a table: write [capacity.ratios] below the entry, got 4",
        ),
        (
            {"idle": '"by-share"'},
            "shares must name at least one share, since idle is by-share",
        ),
    ],
)
def test_a_value_that_cannot_be_is_refused(given: dict[str, str], said: str) -> None:
    """The message has file, line, key, what was refused and what is accepted."""
    (found,) = problems(text_of(**given))

    where, _, rest = found.partition(": capacity[1].")
    assert rest == said
    key = next(iter(given))
    if key == "idle" and "share" in given[key]:
        assert where == "capacity.toml, line 1"
    else:
        place = [*LEAST, *(name for name in given if name not in LEAST)].index(key) + 2
        assert where == f"capacity.toml, line {place}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("o3 = 0", "ratios.o3 must be a number above 0, of 12 decimals at most, got 0"),
        ("o3 = -4", "ratios.o3 must be a number above 0, of 12 decimals at most, got -4"),
        ("o3 = nan", "ratios.o3 must be a number above 0, of 12 decimals at most, got NaN"),
        ("o3 = inf", "ratios.o3 must be a number above 0, of 12 decimals at most, got Infinity"),
        (
            "o3 = 1e999999",
            "ratios.o3 must be a number above 0, of 12 decimals at most, got 1E+999999",
        ),
        (
            "o3 = 1e-999999",
            "ratios.o3 must be a number above 0, of 12 decimals at most, got 1E-999999",
        ),
        ('o3 = "4"', 'ratios.o3 must be a number above 0, of 12 decimals at most, got "4"'),
        ("o3 = true", "ratios.o3 must be a number above 0, of 12 decimals at most, got true"),
        (
            f"o3 = 0x{'f' * 9_000}",
            "ratios.o3 must be a number above 0, of 12 decimals at most, got a number of many digits",
        ),
        (
            "gpt-4.1 = 4",
            'ratios.gpt-4 is a table: put a name with dots in quotes, like "gpt-4.1"',
        ),
    ],
)
def test_a_ratio_is_an_exact_number_above_0(line: str, said: str) -> None:
    """TOML reads a name with a dot as two; the message says what was meant."""
    (found,) = problems(text_of("[capacity.ratios]", line))

    assert found == f"capacity.toml, line 9: capacity[1].{said}" or (
        "gpt-4.1" in line and found == f"capacity.toml, line 8: capacity[1].{said}"
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('"team:" = 1', '"team:" needs a name behind team:'),
        ('"cost_centre: " = 1', '"cost_centre: " needs a name behind cost_centre:'),
        ('"" = 1', '"" must be a subject, team:NAME or cost_centre:NAME'),
        ("a = 0", "a must be a number above 0, of 12 decimals at most, got 0"),
        ('"team:a" = 1\n"team: a" = 2', '"team: a" is named twice'),
    ],
)
def test_a_share_has_a_holder_and_a_number(line: str, said: str) -> None:
    """By subject, team or cost centre."""
    (found,) = problems(text_of("[capacity.shares]", line, idle='"by-share"'))

    assert found.endswith(f": capacity[1].shares.{said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["capacity.toml: has no entry: write [[capacity]] and its keys"]),
        ("capacity = []", ["capacity.toml: has no entry: write [[capacity]] and its keys"]),
        (
            "[capacity]\nptus = 1\n",
            ["capacity.toml, line 1: capacity is a list of entries: write [[capacity]], in two "
             "brackets"],
        ),
        (
            "[[Capacity]]\nptus = 1\n",
            ["capacity.toml, line 1: Capacity is unknown: the file has [[capacity]] entries alone"],
        ),
        (
            "capacity = [1]\n",
            ["capacity.toml, line 1: capacity[1] must be a table: write [[capacity]] and its keys"],
        ),
        (
            "[[capacity]]\n",
            [
                "capacity.toml, line 1: capacity[1] lacks ptus, from, price_per_ptu_hour, currency, "
                "idle",
                "capacity.toml, line 1: capacity[1] must have either backend or deployment, got "
                "neither",
            ],
        ),
        (
            text_of(deployment='"gpt-4o"'),
            ["capacity.toml, line 1: capacity[1] must have either backend or deployment, got both"],
        ),
        (
            "[[capacity]\n",
            ["capacity.toml: is not valid TOML: Expected ']]' at the end of an array declaration "
             "(at line 1, column 11)"],
        ),
        (b"\xff", ["capacity.toml: is not UTF-8 text: byte 1"]),
    ],
)  # fmt: skip
def test_a_file_that_is_no_list_of_entries_is_refused(text: str | bytes, said: list[str]) -> None:
    """Brackets are easily forgotten."""
    assert problems(text) == said


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    """Windows' editors write one."""
    assert read(f"\ufeff{WHOLE}") == read(WHOLE)


def test_all_problems_are_told_at_once() -> None:
    """With the line of each, in whichever entry."""
    text = text_of("[capacity.ratios]", "o3 = 0", ptus="0") + text_of(backend=None, idle='"no"')

    assert [found.partition(" ")[2].partition(" must")[0] for found in problems(text)] == [
        "line 3: capacity[1].ptus",
        "line 9: capacity[1].ratios.o3",
        "line 10: capacity[2]",
        "line 15: capacity[2].idle",
    ]


@pytest.mark.parametrize(
    ("one", "other", "is_refused"),
    [
        ({}, {}, True),
        ({"to": "2026-11-01"}, {"from": "2026-11-01"}, False),
        ({"to": "2026-11-02"}, {"from": "2026-11-01"}, True),
        ({"from": "2026-11-01"}, {"to": "2026-11-02"}, True),
        ({}, {"backend": '"other"'}, False),
        ({}, {"backend": None, "deployment": '"ptu"'}, False),
    ],
)
def test_entries_of_one_backend_do_not_overlap(
    one: dict[str, str | None], other: dict[str, str | None], is_refused: bool
) -> None:
    """Added up, a forgotten end would double a cost without a word."""
    text = text_of(**one) + text_of(**other)

    if not is_refused:
        assert len(read(text)) == 2
        return
    (found,) = problems(text)
    assert "capacity[2].from is inside the days of another entry of backend ptu (" in found
    assert found.endswith("end one before the other begins, or write their units as one entry")
