"""`python -m meter report`: its arguments, exit codes, messages and output file."""

from pathlib import Path

import pytest

from local.child import free_ports
from meter.__main__ import main
from meter.commands.reporting.reading import Reading, progress_text
from meter.window import Window
from tests.support.prices import book_text, line


@pytest.fixture
def no_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MeterStorage", "MeterStorage__tableServiceUri", "AzureWebJobsStorage"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("words", "accepted"),
    [
        ([], "COMMAND"),
        (["raport"], "did you mean report?"),
        (["report", "--by", "week"], "hour"),
        (["report", "--format", "pdf"], "csv"),
        (
            ["report", "--group", "app"],
            "one of subject, name, team, cost_centre, client_app, deployment, model, backend, tier, "
            "context; got 'app'",
        ),
        (["report", "--group", "tier,tier"], "twice"),
        (["report", "--from", "yesterday"], "YYYY-MM-DD"),
        (["report", "--to", "2026-02-30"], "YYYY-MM-DD"),
        (
            ["report", "--from", "2026-02", "--to", "2026-01"],
            "argument --from: the start 2026-02 is after the end 2026-01",
        ),
        (
            ["report", "--from", "2026-11-01", "--to", "2026-11-02"],
            "argument --to: 2026-11-02 is inside a month: use --by day, or give 2026-11",
        ),
        (
            ["report", "--by", "day", "--from", "2026-11-26T10"],
            "argument --from: 2026-11-26T10 is inside a day: use --by hour, or give 2026-11-26",
        ),
        (["report", "--currency", "USD"], "--currency: takes effect with --prices only"),
        (["report", "--format", "focus"], "FOCUS is about costs: give --prices or --capacity"),
        (["report", "--focus-version", "1.3"], "1.4"),
        (["report", "--billing-account", " "], "an id; got an empty text"),
        (["report", "--prices"], "--prices"),
        (["report", "--since", "2026-02"], "--since"),
        (["report", "extra"], "extra"),
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


def test_missing_settings_exit_with_1_and_name_the_setting(
    no_storage: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without storage there is nothing to report from."""
    code = main(["report"])

    assert code == 1
    assert capsys.readouterr().err == (
        "error: MeterStorage is not set, nor is MeterStorage__tableServiceUri\n"
    )


def test_price_files_are_read_before_storage(
    tmp_path: Path, no_storage: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every problem of every file is a line; one that cannot be opened is one, too."""
    bad = tmp_path / "bad.csv"
    bad.write_text(book_text(line(price="1,5"), line(unit="0")))
    code = main(["report", "--prices", str(bad), str(tmp_path), "--prices", str(tmp_path / "no")])

    error = capsys.readouterr().err
    assert code == 1
    assert [each.partition(": ")[0] for each in error.splitlines()] == ["error"] * 4
    assert "Is a directory" in error
    assert "No such file" in error


def test_storage_that_does_not_answer_exits_with_1_and_shows_no_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says what failed, in one line, without the secret."""
    (port,) = free_ports(1)
    monkeypatch.setenv(
        "MeterStorage",
        "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=c2VjcmV0;"
        f"TableEndpoint=http://127.0.0.1:{port}/a",
    )
    code = main(["report"])

    error = capsys.readouterr().err
    assert code == 1
    assert error.startswith("error: table storage did not answer: ClosedMonths: query")
    assert len(error.splitlines()) == 1
    assert "c2VjcmV0" not in error


def test_help_names_every_choice(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` is the analyst's manual."""
    with pytest.raises(SystemExit) as ending:
        main(["report", "--help"])

    assert ending.value.code == 0
    shown = capsys.readouterr().out
    for word in (
        "--by",
        "--from",
        "--to",
        "--group",
        "--prices",
        "--format",
        "--out",
        "month",
        "csv",
        "json",
    ):
        assert word in shown


def test_progress_says_how_much_was_read_and_where_it_is() -> None:
    """Of a long report, on a terminal in one line that is overwritten."""
    reading = Reading(1_234_000, Window("2026-11-12"))

    assert progress_text(reading, 100.0) == "1,234,000 rows read, 12,340 rows/s, at 2026-11-12"
