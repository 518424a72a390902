"""`python -m meter rebuild` and `deadletters`: their arguments, exit codes and messages."""

import pytest

from meter.__main__ import main
from meter.terminal import cut, printable
from meter.terminal.plain import plain_lines
from meter.terminal.table import table_of, texts


@pytest.fixture
def no_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MeterStorage", "MeterStorage__tableServiceUri", "AzureWebJobsStorage"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("words", "accepted"),
    [
        (["rebuild"], "--month"),
        (["rebuild", "--month", "2026-11-23"], "--month: takes YYYY-MM, got '2026-11-23'"),
        (["rebuild", "--month", "november"], "YYYY-MM"),
        (["rebuild", "--month", "2026-13"], "YYYY-MM"),
        (
            ["rebuild", "--month", "2026-11", "--buckets", "70-2"],
            "FIRST-LAST from 0 to 63, got '70-2'",
        ),
        (
            ["rebuild", "--month", "2026-11", "--buckets", "9-2"],
            "FIRST-LAST from 0 to 63, got '9-2'",
        ),
        (["rebuild", "--month", "2026-11", "--buckets", "0-64"], "from 0 to 63, got '0-64'"),
        (["rebuild", "--month", "2026-11", "--buckets", "3-"], "from 0 to 63, got '3-'"),
        (["rebuild", "--month", "2026-11", "--buckets", "-1"], "from 0 to 63, got '-1'"),
        (["rebuild", "--month", "2026-11", "--buckets", "٣"], "from 0 to 63, got '٣'"),
        (["rebuild", "--month", "2026-11", "--buckets", ""], "from 0 to 63, got ''"),
        (["rebuild", "--month", "2026-11", "--subject", ""], "takes the subject of a token"),
        (["rebuild", "--month", "2026-11", "--subject", "\udcff"], "takes the subject of a token"),
        (
            ["rebuild", "--month", "2026-11", "--subject", "a", "--buckets", "0-3"],
            "--buckets: not allowed with argument --subject",
        ),
        (["deadletters"], "ACTION"),
        (["deadletters", "delete"], "replay"),
        (["deadletters", "list", "--reason", "bad"], "invalid-field"),
        (["deadletters", "list", "--from", "today"], "YYYY-MM-DD"),
        (["deadletters", "list", "--to", "2026-11-23T07"], "--to: takes YYYY-MM or YYYY-MM-DD"),
        (["deadletters", "list", "--format", "csv"], "json"),
        (["deadletters", "show"], "KEY"),
        (["deadletters", "show", "x"], "a key is DAY/HUB_PARTITION/NUMBER/PLACE/DIGEST, got 'x'"),
        (["deadletters", "replay", "--from", "2026-11", "d/0/1/0"], "give either KEYs or --reason"),
        (["deadletters", "replay", "--reason", "not-json", "d/0/1/0"], "give either KEYs or"),
        (["deadletters", "replay", "--file", "f", "d/0/1/0", "d/0/2/0"], "of exactly one KEY"),
        (["deadletters", "replay", "--file", "f"], "of exactly one KEY"),
    ],
)
def test_invalid_arguments_exit_with_2_and_say_what_is_accepted(
    words: list[str], accepted: str, no_storage: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Storage is not tried; nothing is on standard output."""
    with pytest.raises(SystemExit) as ending:
        main(words)

    assert ending.value.code == 2
    output = capsys.readouterr()
    assert accepted in output.err
    assert output.out == ""


@pytest.mark.parametrize(
    "words",
    [
        ["rebuild", "--month", "2026-11"],
        ["deadletters", "list"],
        ["deadletters", "show", "2026-11-23/0/1/0"],
        ["deadletters", "replay"],
    ],
)
def test_without_storage_they_exit_with_1_and_name_the_setting(
    words: list[str], no_storage: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing else is needed: no backends, no issuers, no hub."""
    code = main(words)

    assert code == 1
    assert capsys.readouterr().err == (
        "error: MeterStorage is not set, nor is MeterStorage__tableServiceUri\n"
    )


def test_a_file_that_cannot_be_read_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    """The message names it."""
    code = main(["deadletters", "replay", "--file", "/nowhere/fixed.json", "2026-11-23/0/1/0"])

    assert code == 1
    assert "/nowhere/fixed.json" in capsys.readouterr().err


def test_listed_texts_cannot_steer_a_terminal() -> None:
    """Every sender to the hub controls what is shown."""
    body = [("a\nb", "\x1b[2Jgone"), ("long key", cut("x" * 9, 8)), ("日本", "wide")]
    lines = list(plain_lines(table_of(texts("KEY", "DETAIL"), body, is_ruled=False)))

    assert lines == [
        "KEY       DETAIL",
        "a\\nb      \\x1b[2Jgone",
        "long key  xxxxx...",
        "日本      wide",
    ]
    assert printable("zoë") == "zoë"
