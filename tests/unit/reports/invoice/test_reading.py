"""The mapping of meters: strict, with every problem at once."""

import pytest

from meter.errors import InvalidInput
from meter.reports.invoice.meaning import Described, Meaning, Measured, Unread
from meter.reports.invoice.reading import meter_reader, read_mapping
from meter.reports.pricing.kinds import Kind


def described(
    name: str, unit: str = "1K", group: str = "Azure OpenAI", product: str = ""
) -> Described:
    return Described(meter_id="ABC", name=name, group=group, product=product, unit=unit)


def test_a_meter_is_read_by_its_name() -> None:
    """The same parser reads Azure's list of prices."""
    read = meter_reader({})

    assert read(described("gpt 4o 1120 cached Inp Data Zone Tokens")) == Measured(
        Meaning(Kind.CACHED_INPUT, "gpt-4o-2024-11-20", "data-zone", "standard", "*"), 1000
    )


def test_the_product_may_be_in_either_of_two_columns() -> None:
    """FOCUS has a description, which begins with it."""
    found = meter_reader({})(
        described("gpt 4.1 Outp glbl Tokens", group="", product="Azure OpenAI - gpt 4.1 Outp glbl")
    )

    assert isinstance(found, Measured)


def test_what_no_name_says_is_unread_with_the_reason() -> None:
    """It is listed on the invoice."""
    read = meter_reader({})

    assert read(described("Standard Text Records", group="Speech")) == Unread(
        "not Azure OpenAI: Speech"
    )
    assert read(described("odd Inp glbl Tokens")) == Unread("unknown word: odd")


def test_an_excerpt_of_an_export_may_have_no_product() -> None:
    """The account is one of Azure OpenAI's; names are read as strictly as ever."""
    read = meter_reader({})

    assert isinstance(read(described("gpt 4.1 Outp glbl Tokens", group="")), Measured)
    assert isinstance(read(described("gpt 4.1 Outp glbl Tokens", group="", product="x")), Measured)
    assert isinstance(read(described("R1 Outp glbl Tokens", group="")), Unread)


def test_without_a_unit_a_quantity_is_not_known() -> None:
    """A thousand would be as good a guess as one; a mapping knows."""
    meter = described("gpt 4.1 Outp glbl Tokens", unit="")
    mapped = Measured(Meaning(Kind.OUTPUT, "gpt-4.1"), 7)

    assert meter_reader({})(meter) == Unread("no unit of measure")
    assert meter_reader({"abc": mapped})(meter) == mapped


def test_a_mapping_goes_before_the_name() -> None:
    """By id or by name, in any case; what it leaves out is any."""
    mapping = read_mapping(
        [
            "meter_id,meter_name,kind,model,tier,unit\n",
            "abc,,output,my-model,,1000000\n",
            ",Odd Meter,Image,*,batch,100\n",
            "\n",
        ],
        "map.csv",
    )
    read = meter_reader(mapping)

    assert read(described("gpt 4o 1120 Inp glbl Tokens")) == Measured(
        Meaning(Kind.OUTPUT, "my-model"), 1_000_000
    )
    assert mapping["odd meter"] == Measured(Meaning(Kind.IMAGE, "*", tier="batch"), 100)


def test_every_problem_of_a_mapping_is_said_with_its_line() -> None:
    """One line each, with what is accepted."""
    with pytest.raises(InvalidInput) as failure:
        read_mapping(
            [
                "meter_name,kind,model,unit,context\n",
                "a,inputs,m,1K,short\n",
                ",input,,0,tall\n",
                "b,input,m,1,\n",
                "B,input,m,1,\n",
                "c,input\n",
            ],
            "map.csv",
        )

    problems = failure.value.problems
    assert [each.partition(": ")[0] for each in problems] == [
        *["map.csv, line 2"] * 2,
        *["map.csv, line 3"] * 4,
        "map.csv, line 5",
        "map.csv, line 6",
    ]
    assert "column kind: must be one of input, cached_input" in problems[0]
    assert problems[0].endswith("got 'inputs'")
    assert "column unit: must be a whole number from 1" in problems[1]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("meter_name;kind;model;unit", "the columns are meter_id, meter_name"),
        ("kind,model,unit", "has no column meter_id or meter_name"),
        ("meter_id,kind,model", "has no column unit"),
        ("meter_id,kind,kind,model,unit", "has a column twice: kind"),
        ("", "has no column meter_id or meter_name, kind, model, unit"),
    ],
)
def test_a_header_must_be_that_of_a_mapping(header: str, problem: str) -> None:
    """Semicolons, missing and doubled columns."""
    with pytest.raises(InvalidInput, match=problem):
        read_mapping([f"{header}\n"] if header else [], "map.csv")
