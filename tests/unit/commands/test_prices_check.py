"""`python -m meter prices check`: its arguments, exit codes and messages."""

from collections.abc import Callable
from pathlib import Path

import pytest

from meter.__main__ import main
from tests.support.prices import HEADER, book_text, line

type Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MeterStorage", "MeterStorage__tableServiceUri", "AzureWebJobsStorage"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str | bytes) -> Path:
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return Path(name)

    return write


@pytest.mark.parametrize(
    ("words", "accepted"),
    [
        ([], "ACTION"),
        (["chekc"], "did you mean check?"),
        (["check", "book.csv"], "--month"),
        (["check", "--month", "2026-11-02", "book.csv"], "takes YYYY-MM, got '2026-11-02'"),
        (["check", "--month", "2026-11"], "a price book is required: FILE, or --prices FILE"),
        (["check", "--month", "2026-11", "--prices"], "--prices"),
        (
            ["check", "--month", "2026-11", "book.csv", "--currency", "euro"],
            "--currency: must be three capitals, such as USD, got 'euro'",
        ),
        (["check", "--month", "2026-11", "book.csv", "--format", "csv"], "json"),
    ],
)
def test_invalid_arguments_exit_with_2_and_say_what_is_accepted(
    words: list[str], accepted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither files nor storage are tried; nothing is on standard output."""
    with pytest.raises(SystemExit) as ending:
        main(["prices", *words])

    assert ending.value.code == 2
    output = capsys.readouterr()
    assert accepted in output.err
    assert output.out == ""


@pytest.mark.parametrize("option", [[], ["--prices"]])
def test_every_problem_of_every_file_is_a_line(
    option: list[str], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files that cannot be opened, too; storage is not tried."""
    write("a.csv", book_text(line(unit="0"), line(kind="x")))
    write("b.csv", b"\x1f\x8b\x08\x00\x00")
    write("c.csv", f"{HEADER}\ncaf\xe9,".encode("latin-1"))
    (tmp_path / "folder").mkdir()
    names = ["a.csv", "b.csv", "c.csv", "folder", "none.csv"]
    code = main(["prices", "check", "--month", "2026-11", *option, *names])

    output = capsys.readouterr()
    assert code == 1
    assert output.out == ""
    shown = output.err.splitlines()
    assert shown[0].startswith("error: a.csv, line 2, column unit: must be a whole number from 1")
    assert shown[1].startswith("error: a.csv, line 3, column kind: must be one of input, ")
    assert shown[2:] == [
        "error: b.csv, line 1: is gzip: unpack it first",
        "error: c.csv, line 2: is not UTF-8 (byte 0xe9): save the file as CSV in UTF-8",
        "error: folder: cannot be read: Is a directory",
        "error: none.csv: cannot be read: No such file or directory",
    ]


def test_a_book_of_several_currencies_needs_a_choice(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """Amounts of two currencies are never added up."""
    write("book.csv", book_text(line(), line(currency="EUR")))
    codes = [
        main(["prices", "check", "--month", "2026-11", "book.csv", *choice])
        for choice in ([], ["--currency", "GBP"], ["--currency", "EUR"])
    ]

    assert codes == [1, 1, 1]
    assert capsys.readouterr().err.splitlines() == [
        "error: the prices are in EUR and USD: choose one currency with --currency",
        "error: there are no prices in GBP; they are in EUR, USD",
        "error: MeterStorage is not set, nor is MeterStorage__tableServiceUri",
    ]


def test_a_name_of_a_file_cannot_steer_the_terminal(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its control characters are shown as escapes."""
    write("a\x1b[2J.csv", "")
    main(["prices", "check", "--month", "2026-11", "a\x1b[2J.csv"])

    assert capsys.readouterr().err.startswith(
        "error: a\\x1b[2J.csv, line 1: the first line is empty"
    )


def test_help_names_every_choice_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` is the operator's manual."""
    with pytest.raises(SystemExit) as ending:
        main(["prices", "check", "--help"])

    assert ending.value.code == 0
    shown = capsys.readouterr().out
    for word in ("--month", "--prices", "--currency", "--format", "FILE", "exit codes"):
        assert word in shown
